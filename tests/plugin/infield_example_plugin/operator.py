"""An operator: every value times one gain."""

from infield.physics.operators.base import LinearOperator


class Gain(LinearOperator):
    name = "example-gain"

    def __init__(self, grid, channels, gain):
        super().__init__(grid, channels, (channels, *grid.shape), grid)
        self.gain = gain

    def A(self, x):
        return self.gain * x

    def A_adjoint(self, y):
        return self.gain * y


def build_gain(description):
    description.expect(("gain",))
    gain = description.positive("gain", description.parameters.get("gain"))
    return Gain(description.regular_grid(), description.channels, gain)
