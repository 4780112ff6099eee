"""How the site sets formulas: equal brackets, punctuation on the same line."""

import importlib.util
from pathlib import Path

import pytest
from docutils import nodes

SOURCE = Path(__file__).parents[2] / "book" / "_ext" / "mathml.py"


@pytest.fixture(scope="module")
def mathml():
    spec = importlib.util.spec_from_file_location("mathml", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tall_bracket_with_an_exponent_has_a_row_of_its_own(mathml):
    made = mathml.convert(nodes.math("", r"\Big(\sum_i u_i\Big)^2"), displaystyle=True)
    assert made.count("<mo minsize") == 2
    assert made.count("<msup><mrow><mo minsize") == made.count("<mrow><mo minsize") == 1
    norm = mathml.convert(
        nodes.math("", r"\big\lVert u \big\rVert^2"), displaystyle=True
    )
    assert norm.count("<msup><mrow><mo ") == 1 and norm.count("‖</mo></mrow><mn>2") == 1
    plain = mathml.convert(nodes.math("", "x^2"), displaystyle=False)
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in plain


@pytest.mark.parametrize(
    ("behind", "glued", "left"),
    [
        (", and more", ",", " and more"),
        (").", ").", ""),
        (" and more", "", " and more"),
        ("-axis", "", "-axis"),
    ],
)
def test_punctuation_stays_with_its_formula(mathml, behind, glued, left):
    formula = nodes.math("", "p")
    sentence = nodes.paragraph("", "", nodes.Text("With "), formula, nodes.Text(behind))
    mathml.glue(formula)
    assert sentence.astext() == f"With p{behind}"
    spans = list(sentence.findall(nodes.inline))
    assert [span.astext() for span in spans] == ([f"p{glued}"] if glued else [])
    assert str(sentence[-1]) == left


def test_a_long_formula_may_be_scrolled_alone(mathml):
    formula = nodes.math("", "a + " * mathml.LONG)
    sentence = nodes.paragraph("", "", formula, nodes.Text(", so"))
    mathml.glue(formula)
    assert not list(sentence.findall(nodes.inline))
