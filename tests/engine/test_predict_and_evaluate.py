"""Embeddings of image and mirror image, and who is ranked how: against slow recomputations on a network by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_tiny_market

from reid_core.data import market1501
from reid_core.data._dataset import EvalImages
from reid_core.data._transforms import MEAN, STD, eval_transform
from reid_core.engine.evaluate import EvaluationOptions, evaluate
from reid_core.engine.predict import predict
from reid_core.types import NetOutput, Sample, Split

SIZE = (8, 4)
CPU = torch.device("cpu")


class Linear(torch.nn.Module):
    """Pixels times fixed numbers: neither even nor odd under a flip, and other numbers in training mode."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = torch.randn(3 * 8 * 4, 2, generator=generator)
        self.classify = torch.randn(3 * 8 * 4, 4, generator=generator)

    def forward(self, images):
        flat = images.flatten(1) + float(self.training)
        return NetOutput(flat @ self.classify, flat @ self.embed)


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return market1501.read(write_tiny_market(tmp_path_factory.mktemp("evaluate") / "market", test_ids=9))


@pytest.mark.parametrize("flip", [False, True])
def test_predictions_equal_the_definition(flip, split):
    images = EvalImages(split.root, split.gallery, eval_transform(SIZE))
    network = Linear(1).train()
    loader = torch.utils.data.DataLoader(images, batch_size=5)
    found = predict(network, loader, CPU, flip)
    assert network.training and found.index.tolist() == list(range(len(split.gallery)))
    for i, image in images:
        views = [image.numpy(), image.numpy()[:, :, ::-1]] if flip else [image.numpy()]
        parts = [unit(view.reshape(-1) @ network.embed.numpy()) for view in views]
        np.testing.assert_allclose(found.embedding[i], unit(sum(parts)), atol=1e-5)
        logits = sum(view.reshape(-1) @ network.classify.numpy() for view in views)
        np.testing.assert_allclose(found.logits[i], logits, rtol=1e-4, atol=1e-4)


def slow_average_precision(distances, query, gallery, any_camera):
    """mAP by walking every ranking: junk away, the query's own camera away, distractors stay and never match."""
    values = []
    for row, q in zip(distances, query):
        kept = [
            (d, g.role == "identity" and g.pid == q.pid)
            for d, g in zip(row, gallery)
            if g.role != "junk" and (any_camera or g.role != "identity" or g.pid != q.pid or g.camid != q.camid)
        ]
        hits = [match for _, match in sorted(kept)]
        ranks = [i + 1 for i, hit in enumerate(hits) if hit]
        values.append(np.mean([(j + 1) / rank for j, rank in enumerate(ranks)]))
    return float(np.mean(values))


@pytest.mark.parametrize("protocol", ["market1501", "any-camera"])
def test_each_network_and_the_mean_of_their_distances(protocol, split):
    # A distractor with a query's own number and junk with another's: the role decides, not the number.
    trap = {"distractor": split.query[0].pid, "junk": split.query[1].pid}
    gallery = tuple(Sample(g.path, trap.get(g.role, g.pid), g.camid, g.role) for g in split.gallery)
    data = Split("x", split.root, "", split.train, split.query, gallery, protocol)
    networks = [Linear(3).eval(), Linear(4).eval()]
    found = evaluate(networks, data, EvaluationOptions(SIZE, flip=False, batch_size=3), CPU)
    distances = []
    for network in networks:
        images = EvalImages(data.root, data.query + data.gallery, eval_transform(SIZE))
        rows = np.array([unit(image.numpy().reshape(-1) @ network.embed.numpy()) for _, image in images])
        distances.append(-rows[: len(data.query)] @ rows[len(data.query) :].T)
    expected = [slow_average_precision(d, data.query, gallery, protocol == "any-camera") for d in distances]
    assert expected[0] != expected[1]
    assert [result.mAP for result in found.networks] == pytest.approx(expected)
    both = slow_average_precision(sum(distances), data.query, gallery, protocol == "any-camera")
    assert found.ensemble.mAP == pytest.approx(both)
    body = found.to_json()
    assert body["mAP"] == body["networks"][0]["mAP"] == pytest.approx(expected[0])
    assert body["networks"][1]["mAP"] == pytest.approx(expected[1])


def test_normalisation_is_that_of_imagenet_weights():
    from PIL import Image

    tensor = eval_transform((1, 1))(Image.new("RGB", (1, 1), (255, 0, 51)))
    expected = (np.array([1.0, 0.0, 0.2]) - MEAN) / STD
    np.testing.assert_allclose(tensor.flatten().numpy(), expected, rtol=1e-6)
    assert MEAN == (0.485, 0.456, 0.406) and STD == (0.229, 0.224, 0.225)


def test_an_image_that_maps_to_nothing_ranks_last_and_is_no_error(split, caplog):
    class Blind(Linear):
        def forward(self, images):
            found = super().forward(images)
            embedding = found.embedding.abs()
            embedding[0] = 0.0
            return NetOutput(found.logits, embedding)

    found = evaluate([Blind(1).eval()], split, EvaluationOptions(SIZE, flip=False, batch_size=99), CPU)
    assert split.query[0].path in caplog.text
    assert SimpleNamespace(**found.to_json()).num_valid_queries == 9
