"""The page of a lesson: its title, its text, and what to do."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Markdown, Static

from nanogpt.learn.lesson import TASK, Lesson


class LessonPage(VerticalScroll, can_focus=False):
    """The text of a lesson is Markdown in printable characters. Its links do not open."""

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield Markdown(id="text", open_links=False)
        yield Markdown(id="task", open_links=False)

    def show(self, lesson: Lesson) -> None:
        """Show the page of a lesson, from its beginning."""
        self.query_one("#title", Static).update(Content.styled(lesson.title, "bold $accent"))
        self.query_one("#text", Markdown).update(lesson.text)
        self.query_one("#task", Markdown).update(f"**{TASK}** {lesson.task}" if lesson.task else "")
        self.scroll_home(animate=False)
