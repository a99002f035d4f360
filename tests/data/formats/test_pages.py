"""Documents of CSV tables, HTML pages and EPUB books."""

import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from nanogpt.data.formats import documents
from nanogpt.data.formats import epub as epub_format
from nanogpt.errors import UserError

CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
OPF = """<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf"><manifest>
<item id="two" href="text/two.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/one%20a.xhtml" media-type="application/xhtml+xml"/>
<item id="gone" href="text/gone.xhtml" media-type="application/xhtml+xml"/>
<item id="cover" href="cover.png" media-type="image/png"/></manifest>
<spine><itemref idref="one"/><itemref idref="gone"/><itemref idref="two"/></spine></package>"""
PAGE = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{}</body></html>'


def write_epub(path: Path, method: int = zipfile.ZIP_DEFLATED, /, **replaced: str) -> Path:
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": OPF,
        "OEBPS/text/one a.xhtml": PAGE.format("<h1>One</h1><p>It began&#160;– “so”.</p>"),
        "OEBPS/text/two.xhtml": PAGE.format("<p>It ended.</p><script>alert()</script>"),
        "OEBPS/cover.png": "\x89PNG",
    }
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in (files | replaced).items():
            archive.writestr(name, content)
    return path


def read(path: Path, content: str | bytes, **options: str) -> tuple[list[str], dict[str, int]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    skipped: Counter[str] = Counter()
    return list(documents(path, skipped=skipped, **options)), dict(skipped)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_of_separated_values_gives_its_texts(tmp_path: Path, end: str, delimiter: str) -> None:
    rows = [["id", "text", "n"], ["a", f'"one ""two""{delimiter} three{end}four"', "1"], ["b", "ï", "2"]]
    content = "".join(delimiter.join(row) + end for row in rows)
    assert read(tmp_path / "a.csv", content) == ([f'one "two"{delimiter} three{end}four', "ï"], {})
    assert read(tmp_path / "b.csv", content.rstrip(end).encode("cp1252"))[0][1] == "ï"


def test_the_text_column_of_separated_values_is_the_only_one_that_has_more_than_numbers(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "n,body,x\n1,two words,\n2,3,0.5\n") == (["two words", "3"], {})
    with pytest.raises(UserError, match=r"several columns of texts; name one with --text_column; its columns: a, b"):
        read(tmp_path / "a.csv", "a,b\nx,y\n")
    assert read(tmp_path / "a.csv", "a,b\nx,y\n", text_column="b") == (["y"], {})


def test_rows_that_break_the_rules_are_skipped_and_counted(tmp_path: Path) -> None:
    content = 'id,text\n1,one\n2\n3,"two" three\n4,\n\n5,"five"\n6,"never closed\n7,seven\n'
    expected = {"with too few values": 1, "not CSV": 1 + 2, "without text": 1}  # two lines after the open quote
    assert read(tmp_path / "a.csv", content) == (["one", "five"], expected)


def test_a_field_may_be_longer_than_the_standard_librarys_limit(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    assert read(tmp_path / "a.csv", f"text\n{long}\n") == ([long], {})


def test_a_page_gives_its_visible_text(tmp_path: Path) -> None:
    page = """<!doctype html><html><head><title>no</title><style>p{}</style></head><body><script>no()</script>
    <h1>Head<b>ing</b></h1><p>One <i>two</i>, three<br>four
       five</p><ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><pre> x
  y</pre><table><tr><td>1</td><td> 2 </td></tr></table><div hidden>no</div>&amp; &lt;end&gt;<!-- no --></body>"""
    expected = "Heading\n\nOne two, three\nfour five\n\na\nb\n\nc\n\n x\n  y\n\n1\t 2\n\n& <end>\n"
    assert read(tmp_path / "a.html", page) == ([expected], {})
    assert read(tmp_path / "a.htm", "<script>no()</script>") == ([], {"without visible text": 1})


@pytest.mark.parametrize(
    ("named", "codec"),
    [("gb2312", "gb18030"), ("Shift_JIS", "cp932"), ("iso-8859-1", "cp1252"), ("utf-8", "utf-8"), ("gbk", "utf-8")],
)
def test_a_page_is_read_in_the_encoding_that_it_names_unless_it_is_utf_8(
    tmp_path: Path, named: str, codec: str
) -> None:
    text = "“naïve”" if codec == "cp1252" else "道可道"
    page = f'<meta http-equiv="Content-Type" content="text/html; charset={named}"><p>{text}</p>'
    assert read(tmp_path / "a.html", page.encode(codec)) == ([text + "\n"], {})


def test_a_page_that_is_nested_too_deeply_is_refused_quickly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"more than 5,000 elements in one another"):
        read(tmp_path / "a.html", "<div>" * 300_000)
    assert read(tmp_path / "a.html", "<p>a<br>" * 6000)[0] == ["\n\n".join(["a"] * 6000) + "\n"]


@pytest.mark.parametrize("attribute", [" a{}", " a{}=1", ' a{}=">"', "/a{}", ' a{}="1"b{}'])
def test_an_element_with_too_many_attributes_is_refused_quickly(tmp_path: Path, attribute: str) -> None:
    page = "<p" + "".join(attribute.replace("{}", str(number)) for number in range(20_000)) + ">x</p>"
    with pytest.raises(UserError, match=r"^[^\n]*a\.html has an element with more than 5,000 attributes[^\n]*$"):
        read(tmp_path / "a.html", page)


def test_an_image_in_a_page_is_not_taken_for_many_attributes(tmp_path: Path) -> None:
    page = f'<img alt="{"a / b " * 50_000}" src="data:image/png;base64,{"ab/d" * 50_000}"><p>x</p>'
    assert read(tmp_path / "a.html", page) == (["x\n"], {})


def test_a_book_gives_the_text_of_its_chapters_in_the_order_of_its_spine(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    path = write_epub(tmp_path / "a.epub")
    assert list(documents(path, skipped=skipped)) == ["One\n\nIt began\xa0– “so”.\n\nIt ended.\n"]
    assert skipped == {"missing chapters": 1}


@pytest.mark.parametrize(
    ("replaced", "complaint"),
    [
        ({"META-INF/container.xml": "<container>"}, "damaged EPUB book"),
        ({"META-INF/container.xml": "<container/>"}, "damaged EPUB book"),
        ({"META-INF/container.xml": "<container><rootfile/></container>"}, "damaged EPUB book"),
        ({"OEBPS/book.opf": '<?xml version="1.0" encoding="gb2312"?><package/>'}, "damaged EPUB book"),
        ({"OEBPS/book.opf": '<?xml version="1.0" encoding="nonsense"?><package/>'}, "damaged EPUB book"),
        ({"OEBPS/book.opf": f"<package>{'<item/>' * 65_537}</package>"}, "lists more than 65,536 parts"),
        ({"OEBPS/book.opf": f"<package>{' ' * (1 << 23)}</package>"}, "unpacks to more than 8 MB"),
        (
            {"OEBPS/book.opf": '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><package>&b;</package>'},
            "declares entities",
        ),
        (
            {
                "META-INF/encryption.xml": '<encryption xmlns:enc="x"><enc:EncryptedData><enc:CipherData>'
                '<enc:CipherReference URI="OEBPS/text/two.xhtml"/></enc:CipherData></enc:EncryptedData></encryption>'
            },
            r"is encrypted \(DRM\)",
        ),
        ({"OEBPS/text/two.xhtml": " " * (1 << 20)}, "unpacks to more than"),
    ],
)
def test_a_book_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: dict[str, str], complaint: str
) -> None:
    monkeypatch.setattr(epub_format, "MAX_CHAPTER", 1 << 19)
    with pytest.raises(UserError, match=rf"^[^\n]*a\.epub [^\n]*{complaint}[^\n]*$"):
        list(documents(write_epub(tmp_path / "a.epub", **replaced)))


def test_the_sizes_of_all_chapters_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epub_format, "MAX_BOOK", 1000)
    with pytest.raises(UserError, match="unpacks to more than"):
        list(documents(write_epub(tmp_path / "a.epub", **{"OEBPS/text/two.xhtml": PAGE.format("x" * 900)})))


def test_a_chapter_that_a_book_lists_again_is_read_once(tmp_path: Path) -> None:
    again = OPF.replace('<itemref idref="two"/>', '<itemref idref="two"/>' * 1000)
    [text] = documents(write_epub(tmp_path / "a.epub", **{"OEBPS/book.opf": again}))
    assert text.count("It ended.") == 1


@pytest.mark.parametrize("damage", ["cut", "no archive", "bytes", "name", "lzma"])
def test_a_damaged_book_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    path = write_epub(tmp_path / "a.epub")
    if damage == "name":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("ä.xhtml", "")
    elif damage == "lzma":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("META-INF/container.xml", "<container/>")
    content = bytearray(path.read_bytes())
    if damage == "name":
        content = content.replace("ä".encode(), b"\xff\xff")
    elif damage == "lzma":
        place = content.index(b"container.xml") + len("container.xml") + 9  # after the header of the LZMA stream
        content[place : place + 4] = bytes(4)
    elif damage == "cut":
        del content[-30:]
    elif damage == "bytes":
        place = content.index(b"OEBPS/book.opf") + 20
        content[place : place + 60] = bytes(60)
    path.write_bytes(b"no archive" if damage == "no archive" else content)
    with pytest.raises(UserError, match=r"^[^\n]*a\.epub is a damaged EPUB book [^\n]*$"):
        list(documents(path))


@pytest.mark.parametrize("name", ["a.html", "a.epub"])
def test_a_missing_parser_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    write_epub(path) if name == "a.epub" else path.write_text("<p>a")
    monkeypatch.setitem(sys.modules, "selectolax.lexbor", None)
    with pytest.raises(UserError, match=r"needs selectolax.*: pip install 'nanogpt-tui\[documents\]'"):
        list(documents(path))
