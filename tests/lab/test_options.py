"""Options behind a name."""

import pytest

from cwjax.lab import options

KNOWN = ("layout", "mean")


def test_options_stand_behind_the_name():
    assert options.split("--model", "net.onnx", KNOWN) == ("net.onnx", {})
    asked = options.split("--model", "a,b.onnx,layout=NCHW,mean=0.5/0.5", KNOWN)
    assert asked == ("a,b.onnx", {"layout": "NCHW", "mean": "0.5/0.5"})
    assert options.joined("a,b.onnx", {"layout": "NCHW", "std": None, "mean": "0.5/0.5"}).startswith("a,b.onnx,layout")
    assert options.split("--model", options.joined(asked[0], dict(asked[1])), KNOWN) == asked


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n,std=1", "the option 'std', which is not known"),
        ("n,mean=", "give mean one value"),
        ("n,mean=1,mean=2", "one"),
    ],
)
def test_options_that_are_none_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        options.split("--model", name, KNOWN)
