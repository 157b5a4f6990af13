import pytest

from experiments import coverage_of_attacks
from experiments import coverage_subjects as subjects
from tests.experiments.conftest import check_coverage_table


@pytest.mark.long
def test_all_suites_of_a_network_have_equally_many_inputs(hidden_net, tmp_path):
    arguments = coverage_of_attacks.Arguments(data="blobs", models=("any",), examples=6, steps=100, out=tmp_path)
    rows = coverage_of_attacks.main(arguments)
    check_coverage_table("coverage_of_attacks", rows, tmp_path)
    assert [row["suite"] for row in rows] == ["natural, attacked", "natural, others", *arguments.attacks]
    assert len({row["inputs"] for row in rows}) == 1


def test_the_neurons_of_the_table_are_of_the_lenets(hidden_net):
    [network] = subjects.networks(subjects.Common(data="blobs", models=("any",)))
    with pytest.raises(ValueError, match="for the LeNets of --weights, and any is another network"):
        coverage_of_attacks.first_and_outputs(network)
