import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from vae_teach.networks import (
    MLP,
    ConvDecoder,
    ConvEncoder,
    GridDecoder,
    GridEncoder,
    PatchDecoder,
    PatchEncoder,
)


def rngs():
    return nnx.Rngs(0)


@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (32, 32, 3), (64, 48, 3), (7, 5, 1), (1, 1, 2)]
)
def test_convolutions_take_and_give_any_image_size(shape):
    x = jr.uniform(jr.key(0), shape)
    z = ConvEncoder(shape, (4, 8, 8), 6, rngs=rngs())(x)
    assert z.shape == (6,)
    assert ConvDecoder(6, (8, 8, 4), shape, rngs=rngs())(z).shape == shape


@pytest.mark.parametrize(("shape", "patch"), [((28, 28, 1), 7), ((32, 48, 3), 8)])
def test_patches_take_and_give_images(shape, patch):
    x = jr.uniform(jr.key(0), shape)
    z = PatchEncoder(shape, patch, 8, 6, rngs=rngs())(x)
    assert z.shape == (6,)
    assert PatchDecoder(6, 8, patch, shape, rngs=rngs())(z).shape == shape


def test_each_pixel_reaches_the_code_and_each_latent_every_pixel():
    shape = (8, 8, 1)
    x, z = jr.uniform(jr.key(0), shape), jr.normal(jr.key(1), (6,))
    for encoder in (
        PatchEncoder(shape, 4, 16, 6, rngs=rngs()),
        ConvEncoder(shape, (8, 8), 6, rngs=rngs()),
    ):
        assert (abs(jax.jacrev(encoder)(x)).sum(0) > 0).all()
    for decoder in (
        PatchDecoder(6, 16, 4, shape, rngs=rngs()),
        ConvDecoder(6, (16, 8), shape, rngs=rngs()),
    ):
        assert (abs(jax.jacfwd(decoder)(z)).sum(-1) > 0).all()


def test_each_code_of_a_grid_sees_the_patches_around_it_and_paints_them():
    """Place (1, 2) of a grid of 4 x 5, in an image of patches of 2 x 2."""
    shape, grid = (8, 10, 1), (4, 5)
    encoder = GridEncoder(shape, 2, 16, 3, rngs=rngs())
    decoder = GridDecoder(3, 16, 2, shape, rngs=rngs())
    x, z = jr.uniform(jr.key(0), shape), jr.normal(jr.key(1), (*grid, 3))
    assert encoder(x).shape == z.shape
    assert decoder(z).shape == shape
    seen = jax.grad(lambda x: encoder(x)[1, 2].sum())(x)[..., 0]
    painted = jax.jvp(decoder, (z,), (jnp.zeros_like(z).at[1, 2].set(1),))[1][..., 0]
    row, column = np.mgrid[:8, :10] // 2
    near = (abs(row - 1) <= 1) & (abs(column - 2) <= 1)
    np.testing.assert_array_equal(seen != 0, near)
    np.testing.assert_array_equal(painted != 0, near)


def test_a_grid_decoder_turns_one_hot_vectors_into_embeddings():
    decoder = GridDecoder(3, 8, 2, (4, 4, 1), rngs=rngs())
    one_hot = jax.nn.one_hot(jnp.array([[0, 2], [1, 2]]), 3)
    table = decoder.embed.kernel[...]
    np.testing.assert_array_equal(decoder.embed(one_hot)[0, 1], table[2])
    with pytest.raises(ValueError, match=r"\(2, 2, 3\), got \(2, 2, 4\)"):
        decoder(jnp.zeros((2, 2, 4)))


def test_a_patch_is_a_tile_of_the_image():
    encoder = PatchEncoder((4, 4, 1), 2, 1, 1, rngs=rngs())
    seen = []
    encoder.embed = lambda patches: seen.append(patches) or patches[..., :1]
    encoder(jnp.arange(16.0).reshape(4, 4, 1))
    np.testing.assert_array_equal(seen[0][0, 1], [2, 3, 6, 7])


def test_mlp_is_the_composition_of_its_layers():
    mlp = MLP(3, 4, 2, rngs=rngs())
    x = jr.normal(jr.key(0), (3,))
    first, second = mlp.layers
    h = jnp.maximum(x @ first.kernel[...] + first.bias[...], 0)
    expected = h @ second.kernel[...] + second.bias[...]
    np.testing.assert_allclose(mlp(x), expected, rtol=1e-5)


def test_mlp_joins_its_inputs_and_reshapes_its_output():
    mlp = MLP(5, 4, (2, 3, 1), rngs=rngs())
    a, b = jnp.arange(2.0), jnp.arange(3.0)
    assert mlp(a, b).shape == (2, 3, 1)
    np.testing.assert_array_equal(mlp(a, b), mlp(jnp.concatenate([a, b])))


@pytest.mark.parametrize(
    "call",
    [
        lambda: MLP(4, 2, rngs=rngs())(jnp.zeros((2, 4))),
        lambda: PatchEncoder((8, 8, 1), 4, 4, 2, rngs=rngs())(jnp.zeros((4, 4, 1))),
        lambda: ConvEncoder((8, 8, 1), (4,), 2, rngs=rngs())(jnp.zeros((4, 4, 1))),
    ],
)
def test_an_input_of_another_size_says_what_was_expected(call):
    with pytest.raises(ValueError, match=r"Expected .* got .* vmap over a batch"):
        call()


def test_sizes_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="divisible by the patch"):
        PatchEncoder((28, 28, 1), 5, 4, 2, rngs=rngs())
    with pytest.raises(ValueError, match="height, width, channels"):
        ConvDecoder(2, (4,), (28, 28), rngs=rngs())
    with pytest.raises(ValueError, match="input and an output"):
        MLP(3, rngs=rngs())
