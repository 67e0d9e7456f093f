import pytest
import torch

from mekiki.errors import InputError
from mekiki.models.networks import (
    EMBED_BLOCK,
    ClassificationNet,
    ConvEmbeddingNet,
    EmbeddingNet,
    SiameseNet,
    Standardise,
    TripletNet,
    VGGEmbeddingNet,
    build_encoder,
    deeply_supervised,
    embed,
)


def test_embedding_net_has_the_weights_of_the_post():
    sizes = [tuple(p.shape) for p in EmbeddingNet((1, 28, 28), 2).parameters()]
    assert sizes == [(256, 784), (256,), (256, 256), (256,), (2, 256), (2,)]


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (1, 28, 28), (3, 33, 57), (1, 128, 96), (1, 4, 200)])
def test_conv_net_takes_any_size_and_its_dense_part_does_not_grow(shape):
    net = ConvEmbeddingNet(shape, dim=5)
    assert net(torch.zeros(2, *shape)).shape == (2, 5)
    assert net.dense[1].in_features <= 64 * 7 * 7


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 33, 57), (1, 128, 96), (1, 8, 200)])
@pytest.mark.parametrize("dim", [2, 40])
def test_vgg_net_takes_any_size_and_its_dense_part_does_not_grow(shape, dim):
    net = VGGEmbeddingNet(shape, dim)
    assert net(torch.zeros(2, *shape)).shape == (2, dim)
    assert net.dense[1].in_features <= 96 * 4 * 4
    assert net.hidden(torch.zeros(2, *shape)).shape == (2, max(32, dim))


@pytest.mark.parametrize("shape", [(784,), (1, 3, 28)])
@pytest.mark.parametrize("build", [ConvEmbeddingNet, VGGEmbeddingNet])
def test_convolutional_nets_refuse_what_is_no_image(build, shape):
    with pytest.raises(InputError, match="use encoder 'mlp'"):
        build(shape)


def test_what_is_asked_of_the_hidden_vector_reaches_the_embedding_net_itself():
    torch.manual_seed(0)
    encoder = build_encoder("vgg", (1, 16, 16), 2, normalise=False, mean=[127.0], std=[60.0]).eval()
    images = torch.randint(0, 256, (5, 16, 16), dtype=torch.uint8)
    vectors, hidden = deeply_supervised(encoder)(images)
    assert vectors.equal(encoder(images))
    assert hidden.shape == (5, 32)
    hidden.sum().backward()
    assert all(p.grad is not None for p in encoder[1].convolutions.parameters())
    assert all(p.grad is None for p in encoder[1].head.parameters())


@pytest.mark.parametrize(("name", "dim"), [("mlp", 2), ("conv", 2), ("vgg", 32)])
def test_a_net_without_a_hidden_vector_is_asked_of_its_embedding_alone(name, dim):
    encoder = build_encoder(name, (1, 16, 16), dim, normalise=False, mean=[127.0], std=[60.0])
    assert deeply_supervised(encoder) is encoder


@pytest.mark.parametrize("build", [EmbeddingNet, ConvEmbeddingNet, VGGEmbeddingNet])
def test_normalised_vectors_have_length_one(build):
    torch.manual_seed(0)
    vectors = build((1, 8, 8), 4, normalise=True)(torch.randn(6, 1, 8, 8))
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.0] * 6, abs=1e-6)


def test_siamese_and_triplet_nets_share_one_embedding():
    torch.manual_seed(0)
    net = EmbeddingNet((6,), 3)
    x = torch.randn(3, 4, 6)
    for outer, sides in ((SiameseNet(net), 2), (TripletNet(net), 3)):
        for side, output in zip(x, outer(*x[:sides]), strict=False):
            assert torch.allclose(output, net(side), atol=1e-6)


def test_classification_net_is_prelu_and_one_linear_layer_on_the_embedding():
    net = ClassificationNet(EmbeddingNet((6,), 2), classes=10)
    x = torch.randn(4, 6)
    expected = net.final(torch.nn.functional.prelu(net.embedding_net(x), net.nonlinear.weight))
    assert net(x).equal(expected)
    assert net(x).shape == (4, 10)


def test_standardise_grey_colour_and_features():
    grey = Standardise((1, 1, 2), [100.0], [50.0])(torch.tensor([[[0, 200]]], dtype=torch.uint8))
    assert grey.tolist() == [[[[-2.0, 2.0]]]]
    colour = Standardise((3, 1, 1), [0.0, 10.0, 20.0], [1.0, 2.0, 4.0])(torch.tensor([[[[1.0, 12.0, 28.0]]]]))
    assert colour.flatten().tolist() == [1.0, 1.0, 2.0]
    constant = Standardise((2,), [5.0, 1.0], [0.0, 1.0])(torch.tensor([[5.0, 3.0]]))
    assert constant.tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize("encoder", ["mlp", "conv", "vgg"])
def test_a_vector_is_the_same_to_the_bit_whatever_stands_beside_it(encoder):
    torch.manual_seed(0)
    net = build_encoder(encoder, (1, 12, 12), 3, normalise=False, mean=[127.0], std=[60.0])
    images = torch.randint(0, 256, (2 * EMBED_BLOCK + 37, 12, 12), dtype=torch.uint8)
    together = embed(net, images)
    order = torch.randperm(len(images))
    assert embed(net, images[order]).equal(together[order])
    for i in (0, 5, EMBED_BLOCK - 1, EMBED_BLOCK, len(images) - 1):
        assert embed(net, images[i : i + 1]).equal(together[i : i + 1])
