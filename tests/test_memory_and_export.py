"""The saved-tensors table as `gradviz.memory`, answers as booleans, and networkx's exporters."""

import json
from io import BytesIO

import networkx as nx
import pytest
import torch

import gradviz
from gradviz import serialize
from gradviz.errors import DamagedFileError


def test_memory_of_a_tensor_a_graph_a_recording_and_a_drawing():
    x = torch.ones(500, requires_grad=True)
    loss = x.exp().sum()
    table = gradviz.memory(loss)
    assert str(table).splitlines()[0].startswith("f32[500]  2 kB  output of exp")
    assert table.total == gradviz.memory(gradviz.trace(loss)).total == 2000
    assert gradviz.memory(gradviz.draw(loss)).total == 2000
    with gradviz.record() as run:
        loss = x.exp().sum()
        loss.backward()
    assert gradviz.memory(run).total == 2000


def test_a_comparison_is_true_when_something_differs():
    x = torch.ones(3, requires_grad=True)
    one, same, other = (x * 2).sum(), (x * 2).sum(), (x * 2).relu().sum()
    assert not gradviz.compare(one, same)
    assert gradviz.compare(one, other)


def test_a_check_is_true_when_it_passed():
    x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    assert gradviz.check(lambda x: (x * x).sum(), x)
    assert not gradviz.check(lambda x: (x * x.detach()).sum(), x)


@pytest.mark.parametrize("write", [nx.write_graphml, nx.write_gexf, nx.write_gml])
def test_exporters_of_networkx_write_what_was_recorded(write):
    x = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        y = (x * 2).detach()
        (x.exp() * y).sum().backward()
    plain = run.frames[-1].graph.to_networkx()
    buffer = BytesIO()
    write(plain, buffer)
    assert b"detach" in buffer.getvalue()
    assert json.loads(json.dumps(nx.node_link_data(plain, edges="edges")))["nodes"]


def damaged(change):
    x = torch.ones(2, requires_grad=True)
    story = gradviz.Story((gradviz.Frame("", gradviz.trace((x * 2).sum())),))
    document = json.loads(serialize.to_json(story))
    change(document["frames"][0])
    return json.dumps(document)


def add_an_edge_back(frame):
    first = frame["edges"][0]
    back = {**first, "source": first["target"], "target": first["source"], "key": 9}
    frame["edges"].append(back)


def count_in_400_digits(frame):
    frame["nodes"][1]["saved_bytes"] = 10**400


@pytest.mark.parametrize(
    ("change", "said"),
    [(add_an_edge_back, "a cycle among its edges"), (count_in_400_digits, "a count of 401 digits")],
)
def test_a_damaged_file_is_told_in_one_line(change, said):
    with pytest.raises(DamagedFileError, match=said) as error:
        serialize.loads(damaged(change))
    assert "\n" not in str(error.value)
