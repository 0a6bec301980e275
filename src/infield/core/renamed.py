"""Old names of modules, classes and functions, and their new ones.

    from infield.posterior.faps import FAPS      # still works, and warns: it is infield.posterior.samplers.faps

One table, `MODULES`, names the modules; another, `NAMES`, single classes and functions that have another name now.
Python imports, class paths of YAML files and pickles reach their targets through them. `install` puts a finder at the
end of `sys.meta_path`: it is consulted only for modules that do not exist. Where an old module's name is a package now
(`infield.physics.noise`), the package calls `old_names` for its `__getattr__`. Old names work until the next
minor version.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MODULES", "NAMES", "install", "old_names", "resolve"]

_TABLE = """
datasets.block_writer -> datasets.formats.block_writer
datasets.brain_template -> datasets.anatomy.brain_template
datasets.brains -> datasets.mri.brains
datasets.channel_file -> datasets.wall_pressure.channel_file
datasets.coil_maps -> datasets.mri.coil_maps
datasets.coil_noise -> datasets.mri.coil_noise
datasets.cosmology -> datasets.cm21.cosmology
datasets.field_axes -> datasets.formats.field
datasets.field_pairs -> datasets.training.field_pairs
datasets.fields -> datasets.training.fields
datasets.kspace -> datasets.mri.kspace
datasets.kspace_arrays -> datasets.mri.readers.arrays
datasets.kspace_fastmri -> datasets.mri.readers.fastmri
datasets.kspace_file -> datasets.mri.readers.open
datasets.kspace_ismrmrd -> datasets.mri.readers.ismrmrd
datasets.kspace_masks -> datasets.mri.masks
datasets.lightcone_21cmfast -> datasets.cm21.readers.py21cmfast
datasets.lightcone_arrays -> datasets.cm21.readers.arrays
datasets.lightcone_fields -> datasets.cm21.training
datasets.lightcone_files -> datasets.cm21.readers.open
datasets.lightcone_fits -> datasets.cm21.readers.fits
datasets.lightcone_observation -> datasets.cm21.observation
datasets.lightcone_source -> datasets.cm21.readers.common
datasets.lightcone_stack -> datasets.cm21.readers.stack
datasets.lightcones -> datasets.cm21.lightcone_file
datasets.measurement_file -> datasets.formats.measurement
datasets.measurement_layout -> datasets.formats.measurement_layout
datasets.mri -> datasets.mri.convert
datasets.mri_volume -> datasets.mri.volume
datasets.operator_families -> datasets.training.operator_families
datasets.parameter_file -> datasets.cm21.parameter_file
datasets.point_fields -> datasets.training.point_fields
datasets.posterior_file -> datasets.formats.posterior
datasets.posterior_layout -> datasets.formats.posterior_layout
datasets.simulation_file -> datasets.formats.simulation
datasets.stored_arrays -> datasets.formats.foreign_arrays
datasets.tiled_posterior -> datasets.formats.tiled_posterior
datasets.wall_plane_binary -> datasets.wall_pressure.readers.binary
datasets.wall_plane_checks -> datasets.wall_pressure.readers.checks
datasets.wall_plane_files -> datasets.wall_pressure.readers.open
datasets.wall_plane_jhtdb -> datasets.wall_pressure.readers.jhtdb
datasets.wall_plane_source -> datasets.wall_pressure.readers.common
datasets.wall_planes -> datasets.wall_pressure.plane_file
datasets.wall_sensors -> datasets.wall_pressure.sensors
datasets.wall_tables -> datasets.wall_pressure.reference_tables
datasets.zarr_group -> datasets.formats.zarr_group
physics.algebra -> physics.operators.composition
physics.channel -> physics.wall_pressure.channel.solver
physics.channel_box -> physics.wall_pressure.channel.boxes
physics.channel_grid -> physics.wall_pressure.channel.grid
physics.channel_start -> physics.wall_pressure.channel.initial_condition
physics.channel_statistics -> physics.wall_pressure.channel.channel_statistics
physics.chebyshev -> physics.wall_pressure.channel.chebyshev
physics.convolution -> physics.operators.convolution
physics.counts -> physics.noise.poisson
physics.darcy -> physics.pde.darcy
physics.description -> physics.operators.description
physics.dirichlet -> physics.pde.dirichlet
physics.fourier -> physics.operators.fourier
physics.gaussian -> physics.noise.gaussian
physics.grid -> core.grid
physics.interferometer -> physics.cm21.interferometer
physics.law -> physics.noise.base
physics.least_squares -> physics.operators.least_squares
physics.linear_operator -> physics.operators.base
physics.low_rank_noise -> physics.noise.low_rank
physics.mri -> physics.mri.multicoil
physics.named -> physics.operators.deepinv
physics.navier_stokes -> physics.pde.navier_stokes
physics.noise -> physics.noise.registry
physics.operator_numbers -> physics.operators.fingerprint
physics.phases -> physics.operators.level_set
physics.poisson -> physics.pde.elliptic
physics.pressure -> physics.pde.darcy_solver
physics.radiometer -> physics.cm21.radiometer
physics.refusal -> physics.operators.refusal
physics.registry -> physics.operators.registry
physics.run_21cmfast -> physics.cm21.run_21cmfast
physics.sampling -> physics.operators.sensors
physics.simulator_21cmfast -> physics.cm21.simulator
physics.sine_transform -> physics.pde.sine_transform
physics.telescopes -> physics.cm21.telescopes
physics.uv_coverage -> physics.cm21.uv_coverage
physics.vorticity -> physics.pde.vorticity
physics.wall_units -> physics.wall_pressure.wall_units
physics.wedge -> physics.cm21.foreground_wedge
physics.window -> physics.operators.crop
pipelines.bench.cm21 -> pipelines.cm21.bench.run
pipelines.bench.cm21_cases -> pipelines.cm21.bench.cases
pipelines.bench.cm21_costs -> pipelines.cm21.bench.costs
pipelines.bench.cm21_memory -> pipelines.cm21.bench.memory
pipelines.bench.cm21_reference -> pipelines.cm21.bench.reference
pipelines.bench.cm21_telescope -> pipelines.cm21.bench.telescope
pipelines.bench.kspace -> pipelines.mri.bench.kspace
pipelines.bench.level_set -> pipelines.bench.pde.level_set
pipelines.bench.mri -> pipelines.mri.bench.run
pipelines.bench.mri_baselines -> pipelines.mri.bench.baselines
pipelines.bench.mri_cases -> pipelines.mri.bench.cases
pipelines.bench.pde -> pipelines.bench.pde.run
pipelines.bench.pde_peers -> pipelines.bench.pde.peers
pipelines.bench.pde_problems -> pipelines.bench.pde.problems
pipelines.bench.volumes -> pipelines.mri.bench.volumes
pipelines.bench.wall_cases -> pipelines.wall_pressure.bench.cases
pipelines.bench.wall_growth -> pipelines.wall_pressure.bench.growth
pipelines.bench.wall_pressure -> pipelines.wall_pressure.bench.run
pipelines.bench.wall_spectra -> pipelines.wall_pressure.bench.spectra
pipelines.blocks -> pipelines.run.blocks
pipelines.channel -> pipelines.wall_pressure.channel
pipelines.channel_run -> pipelines.wall_pressure.channel_run
pipelines.cluster -> pipelines.run.cluster
pipelines.compare_cones -> pipelines.cm21.compare
pipelines.cone_members -> pipelines.cm21.members
pipelines.console -> pipelines.run.console
pipelines.convert -> pipelines.commands.convert
pipelines.demo -> pipelines.commands.demo
pipelines.devices -> pipelines.run.devices
pipelines.emulate -> pipelines.cm21.emulate
pipelines.emulation_points -> pipelines.cm21.emulation_points
pipelines.fit -> pipelines.commands.fit
pipelines.infer_parameters -> pipelines.cm21.infer
pipelines.lightcone_design -> pipelines.cm21.parameter_design
pipelines.lightcone_observation -> pipelines.cm21.observe
pipelines.lightcones -> pipelines.cm21.convert
pipelines.prior_choice -> pipelines.run.prior_choice
pipelines.reconstruct -> pipelines.commands.reconstruct
pipelines.report.lightcones -> pipelines.cm21.report
pipelines.report.parameters -> pipelines.cm21.report_parameters
pipelines.report.wall_pressure -> pipelines.wall_pressure.report
pipelines.samplers -> pipelines.run.samplers
pipelines.simulate -> pipelines.commands.simulate
pipelines.simulate_21cm -> pipelines.cm21.simulate
pipelines.simulations -> pipelines.run.simulations
pipelines.slices -> pipelines.run.slices
pipelines.tiles -> pipelines.run.tiles
pipelines.wall_planes -> pipelines.wall_pressure.convert
pipelines.wall_pressure -> pipelines.wall_pressure.simulate
posterior.across_slices -> posterior.inference.total_variation
posterior.calibration -> posterior.diagnostics.calibration
posterior.conjugate_gradients -> posterior.inference.conjugate_gradients
posterior.conservation -> posterior.inference.constraints
posterior.convergence -> posterior.diagnostics.convergence
posterior.dds -> posterior.samplers.dds
posterior.diffusion_mbir -> posterior.samplers.diffusion_mbir
posterior.empirical_bayes -> posterior.inference.empirical_bayes
posterior.ensembles -> posterior.diagnostics.ensembles
posterior.exact -> posterior.samplers.exact
posterior.faps -> posterior.samplers.faps
posterior.faps_measured -> posterior.samplers.faps_measured
posterior.faps_published -> posterior.samplers.faps_published
posterior.for_deepinv -> posterior.interop.deepinv
posterior.image_metrics -> posterior.mri.image_metrics
posterior.langevin -> posterior.inference.langevin
posterior.lightcone_features -> posterior.cm21.features
posterior.lightcone_statistics -> posterior.cm21.cone_statistics
posterior.lightcone_summary -> posterior.cm21.summary
posterior.lightcones -> posterior.cm21.sampler
posterior.likelihood -> posterior.inference.likelihood
posterior.linear_gaussian -> posterior.inference.linear_gaussian
posterior.linearised -> posterior.inference.laplace
posterior.local_law -> posterior.inference.conditional_moments
posterior.measured_law -> posterior.inference.denoiser_errors
posterior.model_error -> posterior.models.model_error
posterior.modes_across -> posterior.cm21.mode_solver
posterior.null_flow -> posterior.samplers.null_flow
posterior.of_innovations -> physics.operators.pullback
posterior.one_step -> posterior.inference.one_step
posterior.parameter_inference -> posterior.models.parameter_inference
posterior.particles -> posterior.inference.particles
posterior.pmrf -> posterior.samplers.pmrf
posterior.red_diff -> posterior.samplers.red_diff
posterior.sampler -> posterior.samplers.base
posterior.scattering -> posterior.cm21.scattering
posterior.served -> posterior.inference.amortised
posterior.snap -> posterior.samplers.snap
posterior.source_slice -> posterior.samplers.elliptical_slice
posterior.stationary_sensors -> posterior.inference.point_sensor_solver
posterior.streams -> core.randomness
posterior.surrogate -> posterior.models.surrogate
posterior.tiled_faps -> posterior.samplers.faps_tiled
posterior.tiling -> posterior.inference.tiling
posterior.twist -> posterior.inference.twist
posterior.twisted_smc -> posterior.samplers.twisted_smc
posterior.two_sample -> posterior.diagnostics.two_sample
posterior.unrolled -> posterior.samplers.unrolled
posterior.wall_statistics -> posterior.wall_pressure.wall_statistics
posterior.whitening -> posterior.inference.whitening
priors.adapted_source -> priors.amortised.adapted_source
priors.average_velocity -> priors.amortised.average_velocity
priors.bridge -> priors.gaussian.bridge
priors.checkpoint -> priors.storage.checkpoint
priors.circulant -> priors.gaussian.circulant_embedding
priors.covariance -> priors.covariance.base
priors.density_network -> priors.cm21.density_network
priors.description -> priors.storage.from_yaml
priors.domains -> priors.flows.patch_domains
priors.drawn_power -> priors.cm21.power_correction
priors.emulator_training -> priors.cm21.emulator_training
priors.exact_zeros -> priors.cm21.ionised_zeros
priors.family_training -> priors.training.measurement_family
priors.field_space -> priors.flows.field_space
priors.flow -> priors.flows.flow
priors.flow_matching -> priors.training.flow_matching
priors.fno -> priors.networks.fno
priors.gaussian -> priors.gaussian.prior
priors.gaussian.laws -> priors.gaussian.kernels
priors.gaussian_lightcones -> priors.cm21.gaussian
priors.gibbs -> priors.gaussian.gibbs
priors.group_norm -> priors.networks.group_norm
priors.initial_density -> priors.cm21.initial_density
priors.innovations -> priors.cm21.whitening
priors.learned_map -> priors.surrogates.learned_map
priors.lightcone_emulator -> priors.cm21.emulator
priors.lightcone_flow -> priors.cm21.flow
priors.lightcone_matching -> priors.cm21.training
priors.lightcones -> priors.cm21.prior
priors.linear_part -> priors.cm21.linear_correction
priors.local_unet -> priors.networks.local_unet
priors.low_rank -> priors.gaussian.pivoted_cholesky
priors.matern -> priors.gaussian.matern
priors.mean_flow -> priors.training.mean_flow
priors.mixture -> priors.gaussian.mixture
priors.modes -> priors.covariance.modes
priors.operator_learning -> priors.surrogates.training
priors.patched -> priors.networks.patched
priors.perceptron -> priors.networks.mlp
priors.periodic -> priors.networks.periodic
priors.pmrf -> priors.training.pmrf
priors.point_network -> priors.networks.point_network
priors.posterior_mean -> priors.training.posterior_mean
priors.prior -> priors.base
priors.processes -> priors.random_fields.processes
priors.random_fields -> priors.random_fields.spectral
priors.rectified_flow -> priors.amortised.rectified_flow
priors.regrid -> priors.flows.regrid
priors.slice_network -> priors.cm21.slice_network
priors.slice_repeats -> priors.cm21.box_repeats
priors.slice_spectra -> priors.cm21.slice_spectra
priors.slice_statistics -> priors.cm21.slice_statistics
priors.slices -> priors.flows.slices
priors.source -> priors.gaussian.kernels
priors.spectral_density -> priors.gaussian.spectral_density
priors.sphere -> priors.gaussian.sphere
priors.supervised -> priors.amortised.base
priors.time_embedding -> priors.networks.time_embedding
priors.training -> priors.training.common
priors.unet -> priors.networks.unet
priors.unrolled -> priors.amortised.unrolled
priors.voxel_transform -> priors.cm21.voxel_transform
priors.wall_pressure -> priors.wall_pressure.synthetic
priors.window -> priors.torus_window
pipelines.bench.one_step_fields -> pipelines.mri.bench.one_step_fields
pipelines.bench.one_step -> pipelines.mri.bench.one_step
"""

MODULES: dict[str, str] = {}
"""Old module -> new module, by their full names."""
for _line in _TABLE.split("\n"):
    if _line:
        _old, _new = _line.split(" -> ")
        MODULES[f"infield.{_old}"] = f"infield.{_new}"

_NAMES = """
pipelines.infer_parameters:COMPONENTS -> pipelines.cm21.infer_options:COMPONENTS
pipelines.infer_parameters:HELD_OUT -> pipelines.cm21.infer_options:HELD_OUT
pipelines.commands.simulate:add_field_arguments -> pipelines.commands.simulate_options:add_field_arguments
datasets.block_writer:installed_versions -> core.provenance:versions
pipelines.reconstruct:COLLAPSED -> pipelines.run.reporting:COLLAPSED
pipelines.bench:add_arguments -> pipelines.commands.bench:add_arguments
pipelines.bench:run -> pipelines.commands.bench:run
datasets.operator_families:UndersampledKspace -> datasets.mri.operator_family:UndersampledKspace
datasets.training.operator_families:UndersampledKspace -> datasets.mri.operator_family:UndersampledKspace
physics.gaussian:CoilGaussianNoise -> physics.mri.noise:CoilGaussianNoise
physics.noise:CoilGaussianNoise -> physics.mri.noise:CoilGaussianNoise
physics.noise.gaussian:CoilGaussianNoise -> physics.mri.noise:CoilGaussianNoise
physics.noise.registry:CoilGaussianNoise -> physics.mri.noise:CoilGaussianNoise
priors.checkpoint:ENTRY -> priors.storage.flow_entry:ENTRY
priors.checkpoint:KIND -> priors.storage.flow_entry:KIND
priors.checkpoint:STORED -> priors.storage.flow_entry:STORED
priors.checkpoint:VERSION -> priors.storage.flow_entry:VERSION
priors.checkpoint:build_network -> priors.storage.network:build_network
priors.checkpoint:from_entry -> priors.storage.flow_entry:from_entry
priors.checkpoint:load_any -> priors.storage.checkpoint:load_checkpoint
priors.checkpoint:load_prior -> priors.storage.checkpoint:load_flow_prior
priors.checkpoint:load_stored -> priors.storage.checkpoint:load_checkpoint
priors.checkpoint:network_description -> priors.storage.network:network_description
priors.checkpoint:to_entry -> priors.storage.flow_entry:to_entry
priors.checkpoint:with_plugins -> priors.storage.network:with_plugins
priors.storage.checkpoint:ENTRY -> priors.storage.flow_entry:ENTRY
priors.storage.checkpoint:KIND -> priors.storage.flow_entry:KIND
priors.storage.checkpoint:STORED -> priors.storage.flow_entry:STORED
priors.storage.checkpoint:VERSION -> priors.storage.flow_entry:VERSION
priors.storage.checkpoint:build_network -> priors.storage.network:build_network
priors.storage.checkpoint:from_entry -> priors.storage.flow_entry:from_entry
priors.storage.checkpoint:load_any -> priors.storage.checkpoint:load_checkpoint
priors.storage.checkpoint:load_prior -> priors.storage.checkpoint:load_flow_prior
priors.storage.checkpoint:load_stored -> priors.storage.checkpoint:load_checkpoint
priors.storage.checkpoint:network_description -> priors.storage.network:network_description
priors.storage.checkpoint:to_entry -> priors.storage.flow_entry:to_entry
priors.storage.checkpoint:with_plugins -> priors.storage.network:with_plugins
priors.cm21.prior:ENTRY -> priors.cm21.prior_entry:ENTRY
priors.cm21.prior:KIND -> priors.cm21.prior_entry:KIND
priors.cm21.prior:STORED -> priors.cm21.prior_entry:STORED
priors.cm21.prior:VERSION -> priors.cm21.prior_entry:VERSION
priors.cm21.prior:from_entry -> priors.cm21.prior_entry:from_entry
priors.cm21.prior:load_lightcone_prior -> priors.cm21.prior_entry:load_lightcone_prior
priors.cm21.prior:to_entry -> priors.cm21.prior_entry:to_entry
priors.lightcones:ENTRY -> priors.cm21.prior_entry:ENTRY
priors.lightcones:KIND -> priors.cm21.prior_entry:KIND
priors.lightcones:STORED -> priors.cm21.prior_entry:STORED
priors.lightcones:VERSION -> priors.cm21.prior_entry:VERSION
priors.lightcones:from_entry -> priors.cm21.prior_entry:from_entry
priors.lightcones:load_lightcone_prior -> priors.cm21.prior_entry:load_lightcone_prior
priors.lightcones:to_entry -> priors.cm21.prior_entry:to_entry
datasets.mri:open_held_out -> datasets.mri.converted:open_held_out
datasets.mri:VERSION -> datasets.mri.converted:VERSION
priors.mean_flow:spread_and_error -> priors.training.spread_score:spread_and_error
priors.mean_flow:spread_score -> priors.training.spread_score:dawid_sebastiani_score
physics.algebra:without_units -> physics.operators.composition:strip_scaling
physics.dirichlet:grid_with_rim -> physics.pde.dirichlet:check_dirichlet_grid
physics.dirichlet:with_rim -> physics.pde.dirichlet:pad_boundary
physics.law:total -> physics.noise.base:sum_observed
physics.law:white -> physics.noise.base:standard_normal_like
physics.operator_numbers:operator_numbers -> physics.operators.fingerprint:operator_fingerprint
physics.pressure:Pressure -> physics.pde.darcy_solver:DarcySolve
physics.pressure:PressureEquation -> physics.pde.darcy_solver:DarcySolver
physics.refusal:Refused -> physics.operators.refusal:ForwardModelError
physics.uv_coverage:samples_in_cells -> physics.cm21.uv_coverage:grid_uv_counts
physics.uv_coverage:tracks -> physics.cm21.uv_coverage:uv_tracks
physics.vorticity:Scheme -> physics.pde.vorticity:IntegratingFactorRK4
priors.domains:on_domain -> priors.flows.flow:on_domain
priors.flows.regrid:Site -> core.grid:GridLike
priors.gaussian.laws:Lattice -> core.grid:GridLike
priors.regrid:Site -> core.grid:GridLike
priors.source:Lattice -> core.grid:GridLike
physics.window:through_window -> physics.operators.pullback:through_window
posterior.sampler:standardised -> physics.operators.pullback:standardised
priors.domains:on_domain -> priors.flows.flow:on_domain
priors.window:Window -> core.transform:Window
datasets.lightcone_source:EVEN -> datasets.cm21.readers.common:GRID_RTOL
physics.channel_start:REACH -> physics.wall_pressure.channel.initial_condition:DECAY_LENGTH_PLUS
physics.wall_units:SAME -> physics.wall_pressure.wall_units:RE_TAU_RTOL
pipelines.bench.cm21_cases:LEAST -> pipelines.cm21.bench.cases:MIN_REFERENCE_LIGHTCONES
pipelines.bench.cm21_cases:NEAR -> pipelines.cm21.bench.cases:MAX_OFFSET_CELLS
pipelines.bench.cm21_memory:STEPS -> pipelines.cm21.bench.memory:FLOW_STEPS
pipelines.bench.cm21_reference:TOGETHER -> pipelines.cm21.bench.reference:LIGHTCONES_PER_READ
pipelines.bench.cm21_telescope:FAINT -> pipelines.cm21.bench.telescope:MIN_SIGNAL_TO_NOISE
pipelines.emulate:ROUNDING -> pipelines.cm21.emulate:REDSHIFT_RTOL
pipelines.infer_parameters:LEAST -> pipelines.cm21.infer:MIN_SIMULATIONS
pipelines.cone_members:TOGETHER -> pipelines.cm21.members:MAX_VOXELS_PER_READ
pipelines.cone_members:SAME -> pipelines.cm21.members:GRID_RTOL
pipelines.simulate:BLOCK_VALUES -> pipelines.commands.simulate:MAX_VALUES_PER_BLOCK
pipelines.wall_pressure:BLOCK_VALUES -> pipelines.wall_pressure.simulate:MAX_VALUES_PER_BLOCK
pipelines.bench.pde_problems:CHECKPOINTS -> pipelines.package_data:CHECKPOINTS
pipelines.lightcone_observation:OBSERVATION -> pipelines.cm21.observe_options:OBSERVATION
pipelines.lightcone_observation:add_arguments -> pipelines.cm21.observe_options:add_arguments
pipelines.reconstruct:add_arguments -> pipelines.commands.reconstruct_options:add_arguments
pipelines.wall_planes:FLOWS -> datasets.wall_pressure.readers.jhtdb:FLOWS
pipelines.wall_planes:PLANES -> pipelines.wall_pressure.convert_options:PLANES
pipelines.wall_planes:SENSORS -> pipelines.wall_pressure.convert_options:SENSORS
pipelines.wall_planes:WALLS -> datasets.wall_pressure.plane_file:WALLS
pipelines.wall_planes:add_plane_arguments -> pipelines.wall_pressure.convert_options:add_plane_arguments
pipelines.wall_planes:add_sensor_arguments -> pipelines.wall_pressure.convert_options:add_sensor_arguments
pipelines.bench.one_step_fields:FEW -> pipelines.mri.bench.one_step_fields:FEW_DRAWS
pipelines.bench.one_step_fields:EXACT -> pipelines.mri.bench.one_step_fields:NOISELESS_STD
posterior.modes_across:ROUNDING -> posterior.cm21.mode_solver:FLOAT32_RTOL
posterior.modes_across:EVEN -> posterior.cm21.mode_solver:SYMMETRY_RTOL
posterior.modes_across:TOGETHER -> posterior.cm21.mode_solver:MAX_VALUES_PER_BATCH
posterior.measured_law:LEAST -> posterior.inference.denoiser_errors:MIN_ERROR_FRACTION
posterior.langevin:HALVINGS -> posterior.inference.langevin:MAX_HALVINGS
posterior.linearised:EASE -> posterior.inference.laplace:TEMPERING
posterior.linearised:REACH -> posterior.inference.laplace:MAX_SLOPE
posterior.linearised:FIRST -> posterior.inference.laplace:INITIAL_RANK
posterior.stationary_sensors:EVEN -> posterior.inference.point_sensor_solver:SYMMETRY_RTOL
posterior.tiling:CELL -> posterior.inference.tiling:RNG_BLOCK
posterior.parameter_inference:TOGETHER -> posterior.models.parameter_inference:DATA_PER_BATCH
posterior.parameter_inference:STEPS -> posterior.models.parameter_inference:STEPS_PER_EPOCH
posterior.surrogate:ROUNDING -> posterior.models.surrogate:FLOAT32_RTOL
posterior.null_flow:EXACT -> posterior.samplers.null_flow:NOISELESS_THRESHOLD
priors.adapted_source:EXACT -> priors.amortised.adapted_source:NOISELESS_STD
priors.slice_repeats:FAINT -> priors.cm21.box_repeats:MIN_FILTERED_POWER
priors.density_network:CELL -> priors.cm21.density_network:UNSHUFFLE
priors.lightcone_emulator:MOST -> priors.cm21.emulator:MAX_MU_OVER_SIGMA
priors.emulator_training:FAINT -> priors.cm21.emulator_training:POWER_FLOORS
priors.drawn_power:SMALL -> priors.cm21.power_correction:POWER_OFFSET
priors.slice_spectra:SMALL -> priors.cm21.slice_spectra:POWER_OFFSET
priors.lightcones:STEPS -> priors.cm21.prior:FLOW_STEPS
priors.voxel_transform:REACH -> priors.cm21.voxel_transform:HALO_WIDTHS
priors.voxel_transform:FEW -> priors.cm21.voxel_transform:IONISED_WEIGHT
priors.flow:BLOCK_VALUES -> priors.flows.flow:MAX_VALUES_PER_CALL
priors.circulant:ROUNDING -> priors.gaussian.circulant_embedding:NEGATIVE_RTOL
priors.local_unet:CELL -> priors.networks.local_unet:UNSHUFFLE
priors.learned_map:TOGETHER -> priors.surrogates.learned_map:MAX_VALUES_PER_CALL
priors.operator_learning:LEAST -> priors.surrogates.training:MIN_HELD_OUT_PAIRS
datasets.wall_plane_checks:CLOSE -> datasets.wall_pressure.readers.checks:MIN_RIGHT_CORRELATION
datasets.wall_plane_checks:LOOSE -> datasets.wall_pressure.readers.checks:MAX_WRONG_CORRELATION
datasets.wall_plane_source:SAME -> datasets.wall_pressure.readers.common:RE_TAU_RTOL
datasets.wall_planes:SAME -> datasets.wall_pressure.plane_file:RE_TAU_RTOL
pipelines.bench.cm21_cases:TOGETHER -> pipelines.cm21.bench.cases:MAX_VOXELS_PER_READ
pipelines.bench.cm21_telescope:TOGETHER -> pipelines.cm21.bench.telescope:SAMPLES_PER_BATCH
pipelines.bench.mri_baselines:LEAST -> pipelines.mri.bench.baselines:MIN_WEIGHT
pipelines.bench.mri_baselines:MOST -> pipelines.mri.bench.baselines:MAX_WEIGHT
pipelines.bench.one_step:BATCH -> pipelines.mri.bench.one_step:BATCH_SIZE
pipelines.emulate:STEPS -> pipelines.cm21.emulate:FLOW_STEPS
posterior.linearised:ENOUGH -> posterior.inference.laplace:GAIN_TOL
posterior.linearised:HALVINGS -> posterior.inference.laplace:MAX_BACKTRACKS
posterior.linearised:ROUNDS -> posterior.inference.laplace:MAX_LINEARISATIONS
posterior.linearised:TRIES -> posterior.inference.laplace:MAX_STEPS
posterior.measured_law:BATCH -> posterior.inference.denoiser_errors:BATCH_SIZE
priors.drawn_power:STEPS -> priors.cm21.power_correction:FLOW_STEPS
priors.emulator_training:CELL -> priors.cm21.emulator_training:UNSHUFFLE
priors.initial_density:CELL -> priors.cm21.initial_density:UNSHUFFLE
priors.lightcone_emulator:CELL -> priors.cm21.emulator:UNSHUFFLE
priors.lightcone_matching:ROUNDS -> priors.cm21.training:EPOCHS_PER_BATCH
priors.lightcone_matching:WINDOWS -> priors.cm21.training:BATCH_SIZE
priors.linear_part:GREATEST -> priors.cm21.linear_correction:MAX_WAVENUMBER
priors.linear_part:LEAST -> priors.cm21.linear_correction:MIN_WAVENUMBER
priors.patched:CHUNK_VALUES -> priors.networks.patched:MAX_VALUES_PER_CALL_CPU
priors.patched:CHUNK_VALUES_ELSEWHERE -> priors.networks.patched:MAX_VALUES_PER_CALL_GPU
priors.slice_repeats:GREATEST -> priors.cm21.box_repeats:MAX_WAVENUMBER
priors.slice_repeats:LEAST -> priors.cm21.box_repeats:MIN_WAVENUMBER
priors.slice_spectra:GREATEST -> priors.cm21.slice_spectra:MAX_WAVENUMBER
priors.slice_spectra:LEAST -> priors.cm21.slice_spectra:MIN_WAVENUMBER
physics.law:NoiseLaw -> physics.noise.base:NoiseModel
physics.law:GaussianLaw -> physics.noise.base:GaussianNoiseModel
physics.least_squares:LeastSquares -> physics.operators.least_squares:LeastSquaresMixin
physics.phases:Phases -> physics.operators.level_set:TwoPhaseLevelSet
physics.algebra:Channel -> physics.operators.composition:SelectChannel
physics.channel:Channel -> physics.wall_pressure.channel.solver:ChannelFlowSolver
physics.channel_box:Box -> physics.wall_pressure.channel.boxes:ChannelBox
posterior.parameter_inference:Box -> posterior.models.parameter_inference:ParameterBox
priors.supervised:Supervised -> priors.amortised.base:AmortisedModel
priors.domains:OnDomains -> priors.flows.patch_domains:SupportsDomains
priors.regrid:OnPoints -> priors.flows.regrid:SupportsPoints
priors.regrid:OnGrids -> priors.flows.regrid:SupportsGrids
posterior.served:Served -> posterior.inference.amortised:AmortisedProblem
posterior.served:noise_served -> posterior.inference.amortised:check_noise
posterior.one_step:Asked -> posterior.inference.one_step:OneStepProblem
priors.average_velocity:not_served -> priors.amortised.average_velocity:outside_training_range
posterior.local_law:LocalLaw -> posterior.inference.conditional_moments:ConditionalMoments
posterior.faps:LocalLaw -> posterior.samplers.faps:ConditionalSampler
posterior.faps:ClosedForm -> posterior.samplers.faps:GaussianConditional
posterior.faps:ByChains -> posterior.samplers.faps:LangevinConditional
posterior.measured_law:MeasuredLaw -> posterior.inference.denoiser_errors:DenoiserErrorModel
posterior.measured_law:measure_law -> posterior.inference.denoiser_errors:fit_denoiser_errors
posterior.measured_law:Modulated -> posterior.inference.denoiser_errors:ModulatedCovariance
posterior.across_slices:AcrossSlices -> posterior.inference.total_variation:SliceTotalVariation
posterior.conservation:Conservation -> posterior.inference.constraints:LinearConstraints
posterior.conservation:Conserving -> posterior.inference.constraints:ConstrainedSampler
posterior.conservation:GivenData -> posterior.inference.constraints:PosteriorCovariance
posterior.conservation:OfDraws -> posterior.inference.constraints:SampleCovariance
posterior.langevin:Chains -> posterior.inference.langevin:ChainState
posterior.particles:Weighted -> posterior.inference.particles:ParticleWeights
posterior.source_slice:SourceSlice -> posterior.samplers.elliptical_slice:EllipticalSlice
posterior.modes_across:ModesAcross -> posterior.cm21.mode_solver:TransverseModeSolver
posterior.stationary_sensors:StationarySensors -> posterior.inference.point_sensor_solver:PointSensorSolver
posterior.lightcones:OfLightcones -> posterior.cm21.sampler:LightconeSampler
posterior.for_deepinv:Problem -> posterior.interop.deepinv:SamplingProblem
posterior.for_deepinv:Whitened -> posterior.interop.deepinv:WhitenedProblem
posterior.for_deepinv:physics_of -> posterior.interop.deepinv:to_physics
physics.noise:GaussianLaw -> physics.noise.registry:GaussianNoiseModel
physics.noise:NoiseLaw -> physics.noise.registry:NoiseModel
priors.gaussian:KEPT_BRIDGES -> priors.gaussian.prior:BRIDGE_CACHE_SIZE
priors.window:seen_shape -> priors.torus_window:visible_shape
priors.source:LARGEST_SHARE_LEFT -> priors.gaussian.kernels:MAX_RESIDUAL_FRACTION
priors.source:Law -> priors.gaussian.kernels:Kernel
posterior.linearised:LinearisedPosterior -> posterior.inference.laplace:LaplaceApproximation
posterior.linearised:most_probable -> posterior.inference.laplace:find_map
posterior.lightcone_statistics:zero_fraction -> posterior.cm21.cone_statistics:fully_ionised_fraction
posterior.lightcone_statistics:Shells -> posterior.cm21.cone_statistics:SpectrumBins
posterior.ensembles:within_scatter -> posterior.diagnostics.ensembles:medians_agree
datasets.zarr_group:refuse_missing_chunks -> datasets.formats.zarr_group:check_chunks
datasets.block_writer:refuse_lost_samples -> datasets.formats.block_writer:check_samples
datasets.zarr_group:disk_full_in_words -> datasets.formats.zarr_group:explain_disk_full
datasets.zarr_group:remove_for_good -> datasets.formats.zarr_group:remove_tree
datasets.zarr_group:put_in_place -> datasets.formats.zarr_group:publish
datasets.block_writer:lay_out_done -> datasets.formats.block_writer:create_done_flags
pipelines.blocks:nothing_left_of_nothing -> pipelines.run.blocks:discard_if_empty
pipelines.blocks:draw_missing -> pipelines.run.blocks:run_missing_blocks
pipelines.cone_members:refuse_another_grid -> pipelines.cm21.members:check_same_grid
datasets.lightcone_source:RawCones -> datasets.cm21.readers.common:RawLightcones
datasets.lightcone_source:Stated -> datasets.cm21.readers.common:UserMetadata
datasets.wall_plane_source:Stated -> datasets.wall_pressure.readers.common:UserMetadata
datasets.wall_plane_source:Positions -> datasets.wall_pressure.readers.raw_planes:Positions
posterior.surrogate:Replaced -> posterior.models.surrogate:SurrogateMeasurement
priors.learned_map:Stored -> priors.surrogates.learned_map:StoredSurrogate
datasets.brains:Brains -> datasets.mri.brains:BrainPhantom
priors.innovations:Innovations -> priors.cm21.whitening:VecchiaWhitening
priors.innovations:innovations_of -> priors.cm21.whitening:vecchia_whitening
priors.innovations:InnovationStandardisation -> priors.cm21.whitening:WhiteningTransform
priors.slice_repeats:Repeats -> priors.cm21.box_repeats:BoxRepeats
priors.slice_repeats:SliceRepeats -> priors.cm21.box_repeats:BoxRepeatNetwork
priors.linear_part:LinearPart -> priors.cm21.linear_correction:LinearCorrection
priors.linear_part:fit_linear_part -> priors.cm21.linear_correction:fit_linear_correction
priors.slice_repeats:fit_slice_repeats -> priors.cm21.box_repeats:fit_box_repeats
priors.lightcone_emulator:OneCall -> priors.cm21.emulator:ConditionedEmulator
priors.exact_zeros:with_zeros -> priors.cm21.ionised_zeros:zero_ionised
priors.lightcone_emulator:with_most_likely_zeros -> priors.cm21.emulator:zero_likely_ionised
posterior.lightcones:with_place -> posterior.cm21.sampler:add_ionisation_channel
posterior.lightcones:PLACE -> posterior.cm21.sampler:IONISED
priors.adapted_source:confined -> priors.amortised.adapted_source:soft_null_projection
priors.supervised:fields_of -> priors.amortised.base:arguments_from_entry
priors.family_training:SURVEYED -> priors.training.measurement_family:N_FINGERPRINT_DRAWS
priors.family_training:Measured -> priors.training.measurement_family:MeasuredBatch
priors.training:entry_to_go_on_from -> priors.training.common:resumable_entry
priors.checkpoint:read_any_entry -> priors.storage.checkpoint:read_entry_of_any_kind
priors.drawn_power:fit_drawn_power -> priors.cm21.power_correction:fit_power_correction
physics.named:build_named -> physics.operators.deepinv:build_deepinv
posterior.ensembles:by_chance -> posterior.diagnostics.ensembles:floor_scaling
posterior.parameter_inference:learn -> posterior.models.parameter_inference:fit_posterior
posterior.for_deepinv:decomposed -> posterior.interop.deepinv:to_decomposable_physics
posterior.twist:Guess -> posterior.inference.twist:TwistValue
datasets.kspace:without_oversampling -> datasets.mri.kspace:remove_oversampling
priors.flow:FlowPrior -> priors.flows.flow:LearnedFlow
priors.prior:heun -> pipelines.bench.integrators:heun
priors.base:heun -> pipelines.bench.integrators:heun
posterior.one_step:ask -> posterior.inference.one_step:check_one_step
datasets.mri:ESPIRIT -> datasets.mri.map_sources:ESPIRIT
datasets.mri:FROM_FILE -> datasets.mri.map_sources:FROM_FILE
datasets.mri:UNIFORM -> datasets.mri.map_sources:UNIFORM
datasets.mri:normalised -> datasets.mri.map_sources:normalised
datasets.mri:KERNEL_WIDTH -> datasets.mri.coil_maps:KERNEL_WIDTH
pipelines.channel:LARGEST_CFL -> physics.wall_pressure.channel.solver:LARGEST_CFL
pipelines.channel:add_arguments -> pipelines.wall_pressure.channel_options:add_arguments
pipelines.compare_cones:add_arguments -> pipelines.cm21.compare_options:add_arguments
pipelines.demo:add_arguments -> pipelines.commands.demo_options:add_arguments
pipelines.emulate:add_arguments -> pipelines.cm21.emulate_options:add_arguments
pipelines.infer_parameters:add_arguments -> pipelines.cm21.infer_options:add_arguments
pipelines.lightcones:LIGHTCONES -> pipelines.cm21.convert_options:LIGHTCONES
pipelines.lightcones:add_arguments -> pipelines.cm21.convert_options:add_arguments
pipelines.simulate:PROCESSES -> priors.random_fields.processes:PROCESSES
pipelines.simulate:add_arguments -> pipelines.commands.simulate_options:add_arguments
pipelines.simulate:run -> pipelines.commands.simulate_options:run
pipelines.simulate_21cm:add_arguments -> pipelines.cm21.simulate_options:add_arguments
pipelines.wall_pressure:DX_PLUS -> physics.wall_pressure.wall_units:DX_PLUS
pipelines.wall_pressure:DZ_PLUS -> physics.wall_pressure.wall_units:DZ_PLUS
pipelines.wall_pressure:add_arguments -> pipelines.wall_pressure.simulate_options:add_arguments
"""

NAMES = {
    f"infield.{old}": f"infield.{new}" for old, _, new in (row.partition(" -> ") for row in _NAMES.split("\n") if row)
}
"""Old `module:Name` -> new `module:Name`; the old module may have kept its place."""

_warned: set[str] = set()


def _warn(old: str, new: str, level: int) -> None:
    """Warn once per name."""
    if old not in _warned:
        _warned.add(old)
        warnings.warn(
            f"{old}: found a name of an earlier version, expected {new}; the old name goes in the next minor version",
            DeprecationWarning,
            stacklevel=level + 1,
        )


def resolve(module: str, name: str) -> Any:
    """Return what `name` of an old module refers to now.

    Arguments:
        module: Full name of the module as it was.
        name: A name that it had.

    Raises:
        AttributeError: The module never moved, or has no such name.
    """
    old = f"{module}:{name}"
    if old in NAMES:
        place, _, renamed = NAMES[old].partition(":")
        return getattr(importlib.import_module(place), renamed)
    if module in MODULES:
        return getattr(importlib.import_module(MODULES[module]), name)
    raise AttributeError(f"module '{module}' has no attribute {name!r}")


def old_names(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that replaces an old one, or that lost a name.

    Arguments:
        module: Its `__name__`.
    """

    def __getattr__(name: str) -> Any:
        is_package = "__path__" in vars(sys.modules[module])
        if name.startswith("__") or (is_package and importlib.util.find_spec(f"{module}.{name}") is not None):
            raise AttributeError(f"module '{module}' has no attribute {name!r}")
        try:
            found = resolve(module, name)
        except AttributeError:
            raise AttributeError(f"module '{module}' has no attribute {name!r}") from None
        new = NAMES.get(f"{module}:{name}", f"{MODULES.get(module)}:{name}").replace(":", ".")
        _warn(f"{module}.{name}", new, level=2)
        return found

    return __getattr__


class _OldModules(Loader):
    """Finds modules by the names that they had: what is imported is the new module itself."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, cls()) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name, f"Names of before the move; see {MODULES[spec.name]}.")
        module.__getattr__ = _forward(spec.name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Load the new module, so that a missing dependency is reported at the import."""
        new = importlib.import_module(MODULES[module.__name__])
        names = getattr(new, "__all__", None)
        if names is not None:
            module.__all__ = list(names)  # type: ignore[attr-defined]
        _warn(module.__name__, new.__name__, level=2)  # frames of the import system are not counted


def _forward(old: str) -> Callable[[str], Any]:
    def __getattr__(name: str) -> Any:
        if name in ("__path__", "__file__"):  # it is no package, and has no file
            raise AttributeError(f"module '{old}' has no attribute {name!r}")
        return resolve(old, name)

    return __getattr__


def install() -> None:
    """Serve old names from now on; a second call does nothing."""
    if _OldModules not in sys.meta_path:
        sys.meta_path.append(_OldModules)
