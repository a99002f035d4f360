// Connects textual.js, the terminal of textual-serve, with this server.
"use strict";

const start = window.onload; // textual.js has set it: it opens the terminal and connects it

// Copy a text to the clipboard by selecting it, as old browsers do.
const writeText = async (text) => {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.style.cssText = "position: fixed; opacity: 0";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused.focus();
};

window.onload = async (event) => {
  const terminal = document.querySelector("#terminal");
  const address = new URL("ws", window.location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.search = "";
  terminal.dataset.sessionWebsocketUrl = address.href;
  document.querySelector("#again").onclick = () => window.location.reload();
  // the terminal measures its font once
  await Promise.allSettled(["", "bold", "italic"].map((style) => document.fonts.load(`${style} 16px "Roboto Mono"`)));
  // keys go to the terminal from the start; the server learns of the focus when the app is connected
  new MutationObserver((changes, observer) => {
    if (document.body.classList.contains("-first-byte")) {
      observer.disconnect();
      terminal.querySelector("textarea").focus();
    }
  }).observe(document.body, { attributeFilter: ["class"] });
  // outside HTTPS and localhost a browser has no navigator.clipboard, with which the terminal copies
  if (!navigator.clipboard) {
    Object.defineProperty(navigator, "clipboard", { value: { writeText } });
  }
  start(event);
};
