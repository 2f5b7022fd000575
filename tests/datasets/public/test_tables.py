from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pandas
import pytest

from meddiffusers.datasets.public.finding import Index
from meddiffusers.datasets.public.tables import match_records, read_table, resolve_inside, to_number, to_sex
from meddiffusers.utils.text import some_of


def test_cells_come_as_they_are_and_empty_ones_as_none(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("id\tage \tgroup\n007\t61.5\tNA\n8\t\tb, c\n", encoding="utf-8-sig")
    rows = read_table(path, columns=("age",), text=("id",))
    assert rows == [{"id": "007", "age": 61.5, "group": None}, {"id": "8", "age": None, "group": "b, c"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id;age;group\n1;61,5;a,b\n2;;c\n3;7;\n"),
        ("b.csv", "id\tage\tgroup\n1\t61.5\ta,b\n2\t\tc\n3\t7\t\n"),
        ("c.tsv", "id\tage\tgroup\n1\t61,5\ta,b\n2\t\tc\n3\t7\t\n"),
        ("d.csv", 'id,age,group\n1,"61,5","a,b"\n2,,c\n3,7,\n'),
    ],
)
def test_separators_and_decimal_commas(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    expected = [("1", 61.5, "a,b"), ("2", None, "c"), ("3", 7.0, None)]
    assert [tuple(row.values()) for row in read_table(tmp_path / name, text=("id",))] == expected


def test_a_comma_that_may_be_of_decimals_or_of_thousands_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.csv", 'v\n"1,234"\n'), ("b.csv", "v;w\n1.234,5;2\n"), ("c.tsv", "v\tw\n1,234\t2\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=rf"{name}, column v holds '1.234.*', whose comma or point may be"):
            read_table(tmp_path / name)
    (tmp_path / "d.csv").write_text("v;w\n1,234;2\n")  # with semicolons, commas are of decimals
    assert read_table(tmp_path / "d.csv") == [{"v": 1.234, "w": 2}]


@pytest.mark.parametrize("header", ["sep=;", '"sep=;"', "\nSEP=;"])
def test_the_line_by_which_excel_names_the_separator_is_no_header(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\nid;a,b;v\n007;x,y;1,5\n", encoding="utf-8-sig")
    assert read_table(tmp_path / "a.csv", text=("id",)) == [{"id": "007", "a,b": "x,y", "v": 1.5}]


@pytest.mark.parametrize("cell", ["1,5E+03", "1500,0", "1,5e3", "15,e2"])
def test_decimal_commas_may_have_exponents(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.csv").write_text(f"a;v\n1;{cell}\n2;2\n")
    assert [row["v"] for row in read_table(tmp_path / "a.csv")] == [1500.0, 2.0]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.xlsx"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    table = pandas.DataFrame([["p1", 63, 70]], columns=["subject", "age", "age "])
    if name.endswith("xlsx"):
        table.to_excel(tmp_path / name, index=False)
    else:
        table.to_csv(tmp_path / name, index=False, sep="\t" if name.endswith("tsv") else ",")
    with pytest.raises(ValueError, match=rf"{name} has several columns called age; expected each name once"):
        read_table(tmp_path / name)


def test_rows_with_more_cells_than_the_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("subject,age,weight\n1,63,5,70,2\n")
    with pytest.raises(ValueError, match=r"rows with more cells than its header; .* decimal comma"):
        read_table(tmp_path / "table.csv")


def test_unreadable_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.json is no table of a known kind; expected \.csv"):
        read_table(tmp_path / "a.json")
    (tmp_path / "a.csv").write_text("a,b\n1,2\nDoe,2,3,4\n")
    with pytest.raises(
        ValueError, match=r"a\.csv is no table that can be read \(ParserError\); expected one"
    ) as caught:
        read_table(tmp_path / "a.csv", columns=("a", "b"))
    assert "Doe" not in str(caught.value)


def test_an_absent_engine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    with pytest.raises(ImportError, match="openpyxl"):
        read_table(tmp_path / "a.xlsx")


def test_double_rows_keep_what_all_agree_on(tmp_path: Path) -> None:
    found = Index(tmp_path)
    entries = [("p1", {"age": 5, "sex": "F"}), ("p1", {"age": 6, "sex": "F"}), ("p1", {"age": 6, "sex": "F"})]
    assert match_records(found, tmp_path / "t.csv", [*entries, ("p3", {})], ["p1", "p2"]) == {
        "p1": {"age": None, "sex": "F"}
    }
    assert found.notes == [
        "t.csv has more than one row for p1; values on which they disagree are left out",
        "t.csv has rows without scans: p3",
        "t.csv has no row for p2",
    ]


@pytest.mark.parametrize("name", ["../a.nii", "a/../../b.nii", "/a.nii", r"..\a.nii", r"C:\a.nii", "C:a.nii", "", "."])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected a path below the folder"):
        resolve_inside(tmp_path, name)


def test_names_below_the_folder_are_paths(tmp_path: Path) -> None:
    assert (
        resolve_inside(tmp_path, "a/b..c.nii") == resolve_inside(tmp_path, r"a\b..c.nii") == tmp_path / "a" / "b..c.nii"
    )


def test_values() -> None:
    assert [to_number(value) for value in ("1.5", 2, None, "x", 0)] == [1.5, 2.0, None, None, 0.0]
    assert [to_number(value) for value in ("1_0", "inf", "nan", "1e999", "٣")] == [None] * 5
    assert to_number("0", zero_is_missing=True) is None
    assert [to_sex(value) for value in (1, 2.0, "f", "Male", 0, None, "")] == ["M", "F", "F", "M", None, None, None]
    assert some_of(["b", "a"]) == "a, b"
    assert some_of(map(str, range(7))) == "0, 1, 2, 3, 4, … (7 in all)"
