"""`cwjax train`."""

from types import SimpleNamespace

from cwjax.lab.training import training
from cwjax.lab.training.train import train


def test_it_says_how_good_the_network_is_where_it_lies_and_what_comes_next(tmp_path, monkeypatch, capsys):
    asked = []

    def trained(*given, **more):
        asked.append((given, more))
        return SimpleNamespace(card={"test_accuracy": 0.98765}, folder=tmp_path / "mine")

    monkeypatch.setattr(training, "train", trained)
    settings = training.Training(data="blobs", seed=3)
    train(settings, data_folder=tmp_path / "data", out=tmp_path)
    assert asked == [((settings, tmp_path), {"data_folder": tmp_path / "data"})]
    assert capsys.readouterr().out.splitlines() == [
        "98.77% right on the blobs test images",
        f"Network: {tmp_path / 'mine'}",
        f"Next:    cwjax attack --data blobs --model {tmp_path / 'mine'} --attack fast_l2 --steps 100 --examples 20 "
        "--out runs/mine",
    ]
