// Connects textual.js, the terminal of textual-serve, with this server.
"use strict";

const start = window.onload; // textual.js has set it: it opens the terminal and connects it

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
  start(event);
};
