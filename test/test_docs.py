"""The documentation says what the nodes say."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from aloe_cli import paths
from aloe_cli.node_parameters import read
from aloe_cli.verbs.docs import BEGIN, markdown

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def nodes():
    return read(paths.contract(None))


def test_parameter_tables_are_those_of_the_nodes(nodes):
    tables = markdown(nodes)
    documents = [f for f in (ROOT / "README.md", *ROOT.glob("docs/*.md")) if BEGIN in f.read_text()]
    assert documents
    for document in documents:
        assert tables in document.read_text(), f"run ./aloe docs {document.relative_to(ROOT)}"


def test_every_parameter_has_a_description(nodes):
    assert [p.name for parameters in nodes.values() for p in parameters if not p.description] == []


def test_every_number_has_a_range(nodes):
    numbers = [p for parameters in nodes.values() for p in parameters if p.type in ("int", "float")]
    assert [p.name for p in numbers if not p.range] == []


def test_readme_has_the_topic_table_of_the_architecture():
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    start = architecture.index("| topic |")
    assert architecture[start : architecture.index("\n\n", start)] in (ROOT / "README.md").read_text()
