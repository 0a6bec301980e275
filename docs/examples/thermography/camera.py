"""An infrared camera: each pixel is the mean of `bin` x `bin` points of the field."""

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from infield.core.grid import Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription


class InfraredCamera(LinearOperator):
    name = "infrared-camera"

    def __init__(self, grid: Grid, channels: int, bin: int) -> None:
        ny, nx = grid.shape
        super().__init__(grid, channels, (channels, ny // bin, nx // bin), grid)
        self.bin = bin

    def A(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, self.bin)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return interpolate(y, scale_factor=self.bin, mode="nearest") / self.bin**2


def build_camera(description: OperatorDescription) -> InfraredCamera:
    description.expect(("bin",))
    pixel = description.positive("bin", description.parameters.get("bin"))
    return InfraredCamera(description.regular_grid(), description.channels, int(pixel))
