"""The networks of the zoo in PyTorch, and AttackBench's command with our attacks entered."""

# pyright: reportMissingImports=false
import re

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from benchmarks import attackbench  # noqa: E402


def test_lenet_answers_in_pytorch_as_the_zoo_says():
    images, labels = zip(*attackbench.digits("")[:200], strict=True)
    net = attackbench.network("mnist_lenet")  # which compares the logits itself
    right = net(torch.stack(images)).argmax(1) == torch.tensor(labels)
    assert right.float().mean() > 0.95


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of AttackBench and of what it imports
def test_attackbench_counts_our_passes_and_confirms_our_successes(tmp_path):
    pytest.importorskip("attackbench", reason="needs attackbenchlib")
    out = tmp_path / "table.md"
    attackbench.main(attackbench.Arguments(examples=4, budget=60, norms=("linf",), models=("mnist_lenet",), out=out))
    [cells] = re.findall(r"^\| fast_linf-cwjax \|(.*)\|$", out.read_text(), re.MULTILINE)
    success, *_, forwards, backwards = (float(cell) for cell in cells.split("|"))
    assert success > 0
    assert backwards == 30
    assert 30 <= forwards <= 33  # the most of an image: a few passes compare the asked model with the module
