import pytest

from aloe_cli.launch.plan import make_plan
from aloe_core.errors import AloeError

REFUSED = {
    '<timer period="1"/>': "<timer>",
    '<executable cmd="ls"/>': "<executable>",
    '<set_parameter name="a" value="1"/>': "<set_parameter>",
    '<set_env name="A" value="1"/>': "<set_env>",
    "<node_container/>": "<node_container>",
    '<node exec="/bin/true"><sequence/></node>': "<sequence>",
    '<node exec="/bin/true" launch-prefix="gdb"/>': "'launch-prefix'",
    '<node exec="/bin/true" cwd="/"/>': "'cwd'",
    '<node exec="/bin/true"><param from="x" allow_substs="true"/></node>': "'allow_substs'",
    '<group forwarding="false"/>': "'forwarding'",
    '<arg name="a" value="1"/>': "'value'",
    '<let name="a" value="$(eval 1+1)"/>': "$(eval)",
    '<let name="a" value="$(command ls)"/>': "$(command)",
    '<let name="a" value="$(var)"/>': "$(var) has 0 arguments, expected 1 or 2",
    '<let name="a" value="$(dirname x)"/>': "$(dirname) has 1 arguments, expected 0",
    '<let name="a" value="$(var x"/>': "is not closed",
    '<let name="a" value="$( var x)"/>': "has no name",
    '<let name="a" value="$(var  x)"/>': "empty argument",
    '<let name="a"/>': "no attribute 'value'",
    "<node/>": "no attribute 'exec'",
    '<node exec="/bin/true" if="true" unless="false"/>': "both if and unless",
}


@pytest.mark.parametrize(("xml", "named"), REFUSED.items())
def test_what_is_not_understood_is_refused_by_name_and_line(xml, named, launch_file):
    path = launch_file(f"<!-- one line further down -->\n{xml}")
    with pytest.raises(AloeError) as caught:
        make_plan(path, {})
    assert str(caught.value).startswith(f"{path}:3: ")
    assert named in str(caught.value)


def test_a_branch_that_is_not_taken_is_checked_too(launch_file):
    path = launch_file('<group if="false">\n<timer period="1"/>\n</group>')
    with pytest.raises(AloeError, match=f"{path}:3: element <timer>"):
        make_plan(path, {})


def test_xml_that_is_not_well_formed_is_refused_with_its_line(launch_file):
    path = launch_file("<group>")
    with pytest.raises(AloeError, match=f"{path}:3: not well-formed XML"):
        make_plan(path, {})


def test_an_entity_declaration_is_refused(tmp_path):
    path = tmp_path / "x.launch.xml"
    path.write_text('<!DOCTYPE launch [<!ENTITY a "b">]>\n<launch/>')
    with pytest.raises(AloeError, match="DOCTYPE"):
        make_plan(path, {})


def test_another_root_element_is_refused(tmp_path):
    path = tmp_path / "x.launch.xml"
    path.write_text("<robot/>")
    with pytest.raises(AloeError, match="<robot>, expected <launch>"):
        make_plan(path, {})
