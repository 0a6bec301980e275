"""deepinv, imported after torchvision was mended; no other module imports it (`core.torchvision_remedy`)."""
# ruff: noqa: E402

from infield.core.torchvision_remedy import import_torchvision_first

import_torchvision_first()

import deepinv as deepinv
from deepinv.models import Denoiser as Denoiser
from deepinv.models import MoDL as MoDL
from deepinv.optim.linear import conjugate_gradient as conjugate_gradient
from deepinv.physics import MRI as MRI
from deepinv.physics import DecomposablePhysics as DecomposablePhysics
from deepinv.physics import GaussianNoise as GaussianNoise
from deepinv.physics import Inpainting as Inpainting
from deepinv.physics import LinearPhysics as LinearPhysics
from deepinv.physics import MultiCoilMRI as MultiCoilMRI
from deepinv.physics import Physics as Physics
from deepinv.physics import ZeroNoise as ZeroNoise
