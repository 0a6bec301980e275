"""Lines of the tables of issue 20, and the tests that hold the right value of each: file, then names of functions.

Kept by `tests/test_field_lines.py`: every test exists and has the marker `field`, and no line is without one.
"""

from __future__ import annotations

VALUES = "pipelines/test_field_values.py"
WALL = "datasets/wall_pressure/readers/test_field_files.py"
CM21 = "datasets/cm21/readers/test_field_files.py"
FORMAT = "datasets/formats/test_field_measurements.py"
DEEPINV = "physics/operators/test_field_operators.py"
CLASSES = "physics/operators/test_deepinv_classes.py"
CHECKPOINT = "priors/storage/test_field_checkpoints.py"
TILES = "pipelines/run/test_tiles.py"
FUZZ = "datasets/test_fuzzed_files.py"
KSPACE = "datasets/mri/test_field_kspace.py"
SUPPORT = "posterior/mri/test_field_coil_support.py"
UNSEEN = "posterior/inference/test_unseen_regions.py"
TABLES = "datasets/tables/test_field_strangers.py"
WAY = "pipelines/test_field_reconstructed.py"
INPUT = "pipelines/test_bad_input.py"
SITUATIONS = "datasets/test_field_situations.py"
NUMBERS = "datasets/tables/test_field_numbers.py"
MORE = "datasets/mri/test_field_more.py"
REMEDIES = "pipelines/test_field_remedies.py"
PET = "datasets/pet/test_images.py"
UNEVEN = "posterior/inference/test_empirical_bayes.py"

Line = dict[str, tuple[str, ...]]

SILENTLY_WRONG: dict[str, Line] = {
    "packed netCDF-4 planes named .h5, .hdf5, .netcdf or nothing": {
        WALL: (
            "test_packed_planes_are_unpacked_whatever_their_name",
            "test_a_gap_in_packed_planes_is_a_gap",
            "test_unsigned_planes",
        ),
        WAY: ("test_packed_planes_named_h5_are_sensed_and_reconstructed",),
    },
    "lightcone arrays: frequencies for redshifts, distances, Mpc/h, kelvin": {
        CM21: (
            "test_what_is_no_redshift",
            "test_the_remedy_for_frequencies_works",
            "test_distances_that_do_not_fit_the_redshifts",
            "test_distances_of_a_stack_are_checked_too",
            "test_a_box_in_mpc_over_h",
            "test_kelvin_are_not_taken_for_millikelvin",
        ),
    },
    "native cones as damaged runs left them": {
        CM21: (
            "test_a_cone_that_is_not_between_its_nodes",
            "test_slices_never_filled",
            "test_an_ionised_end_is_no_damage",
            "test_values_that_no_signal_has",
        ),
    },
    "coordinates with calendar noleap or 360_day": {VALUES: ("test_attributes_of_coordinates_travel",)},
    "a field whose offset dwarfs its variation": {
        VALUES: (
            "test_an_offset_that_dwarfs_the_variation",
            "test_an_offset_without_a_prior",
            "test_noise_far_below_the_values_is_stored_too",
        ),
    },
    "operators of deepinv drawn at construction, or with a wrong adjoint": {
        DEEPINV: (
            "test_numbers_drawn_at_construction",
            "test_entropy_of_the_system_is_not_mended_by_a_seed",
            "test_an_adjoint_that_is_not_the_maps",
        ),
        FORMAT: ("test_the_operator_of_another_package_is_compared_with_its_fingerprint",),
    },
    "convolution with a wide Gaussian on a periodic grid": {DEEPINV: ("test_a_wide_gaussian_on_a_torus_is_wrapped",)},
    "a checkpoint with one flipped bit": {
        CHECKPOINT: (
            "test_a_bent_bit_in_a_checkpoint",
            "test_torch_alone_would_load_it",
            "test_every_array_that_is_written_has_a_checksum",
        ),
    },
    "contradicting data at one place": {
        VALUES: ("test_contradicting_data_at_one_place",),
        TILES: ("test_contradicting_data_are_said_and_marked",),
    },
}

REFUSED: dict[str, Line] = {
    "float32 coordinates, sensors on the border, training on float32 grids": {
        FORMAT: (
            "test_positions_in_single_precision_are_even_again",
            "test_a_measurement_on_float32_positions",
            "test_float32_sensors_on_the_border",
            "test_training_on_float32_positions_takes_the_same_basis",
        ),
    },
    "FITS cubes: integers, no CRPIX3, order of axes, CD matrix, beams, .gz, Kelvin": {
        CM21: (
            "test_fits_cubes_of_other_codes",
            "test_a_table_of_beams",
            "test_fits_cubes_that_say_too_little",
            "test_flagged_channels_are_not_data",
        ),
    },
    "observe, then reconstruct, on a FITS cube and on a numpy cone": {
        CM21: ("test_channels_of_equal_width_are_resampled",),
        WAY: (
            "test_a_fits_cube_of_even_channels_is_observed_after_the_remedy",
            "test_a_numpy_cone_is_observed_and_reconstructed",
        ),
    },
    "wall planes of other codes: y spanwise, units, widths, a time axis first": {
        WALL: (
            "test_a_spanwise_axis_called_y",
            "test_z_normal_to_the_wall_and_y_spanwise",
            "test_units_as_other_codes_spell_them",
            "test_units_that_are_none",
            "test_lengths_as_people_write_them",
        ),
    },
    "hlittle 67.66": {CM21: ("test_a_hubble_constant_in_km_per_s",)},
    "degrees_east with degrees_north": {FORMAT: ("test_scattered_points_in_degrees_east_and_north",)},
    "zip stores and .nc as measurements": {FORMAT: ("test_stores_that_are_one_file", "test_files_that_are_none")},
    "decreasing axes": {
        FORMAT: ("test_decreasing_axes_are_turned", "test_decreasing_axes_that_nothing_is_laid_out_along"),
        WAY: ("test_a_grid_that_falls_and_crosses_the_date_line",),
    },
    "no sensor: (0, 2), expected (sensors, 2)": {FORMAT: ("test_no_sensor_at_all",)},
    "deepinv:CLASS: tomography, complex classes, filters, own attributes": {
        DEEPINV: (
            "test_classes_that_cannot_be_used_say_why",
            "test_a_filter_before_downsampling",
            "test_our_affine_has_observed",
        ),
        CLASSES: ("test_most_classes_are_served_and_the_others_refused_in_one_line_without_a_warning",),
    },
    "counts under --prior matern-3/2": {VALUES: ("test_counts_take_a_built_in_prior",)},
    "damaged metadata, a list as a name, a chunk of size 0, a length of 1e308": {
        FUZZ: (
            "test_measurements",
            "test_kinds_that_were_not_foreseen",
            "test_descriptions_of_priors",
            "test_descriptors_of_binary_planes",
            "test_hdf5_files",
        ),
        KSPACE: ("test_damaged_files_are_read_or_refused",),
    },
    "longitudes 179.5 and -179.5 in one file": {
        FORMAT: ("test_longitudes_across_the_date_line", "test_sensors_across_the_date_line"),
    },
}

KSPACE_LINES: dict[str, Line] = {
    "own coil maps, zero outside the support": {
        SUPPORT: ("test_own_maps_cost_little_more_than_the_true_ones",),
        UNSEEN: ("test_products_do_not_grow_with_the_signal_to_noise_ratio", "test_the_mean_is_that_of_dense_algebra"),
    },
    "zeros in files are no data": {
        KSPACE: ("test_zeros_are_no_data_in_any_format", "test_a_mask_that_calls_zeros_measured_is_refused"),
    },
    "spokes, hybrid spaces, images, slices as coils, given as k-space": {
        KSPACE: (
            "test_arrays_that_are_no_kspace_are_refused",
            "test_the_option_overrides_and_is_written",
            "test_kspace_passes",
        ),
    },
    "k-space off centre, a wrong centre in the header": {KSPACE: ("test_kspace_off_its_centre_is_moved_back",)},
    "dead, doubled or dependent coils": {
        KSPACE: ("test_dead_coils_are_dropped_and_said", "test_dependent_coils_are_refused"),
    },
    "reversed partial echo": {KSPACE: ("test_reversed_partial_echoes_are_placed_by_their_peak",)},
    "same field of view, half the matrix": {
        KSPACE: ("test_a_coarser_image_of_the_same_field_of_view_is_not_cropped",),
    },
    "maps conjugated, reordered, flipped, shifted": {
        KSPACE: ("test_maps_that_do_not_fit_are_refused", "test_maps_that_fit_leave_next_to_nothing"),
    },
    "noise from the outermost tenth": {
        KSPACE: (
            "test_noise_is_found_under_sharp_and_textured_heads",
            "test_noise_is_given_by_a_number_or_a_file",
            "test_rounding_is_no_data_and_its_noise_unknown",
        ),
    },
    "the crop of ESPIRiT": {KSPACE: ("test_the_crop_is_told_and_can_be_lowered",)},
    "for_deepinv on a converted scan": {SUPPORT: ("test_a_converted_scan_runs_in_deepinv_with_white_noise",)},
    ".h5 with coils last; scans of one file": {
        KSPACE: ("test_axes_of_hdf5_are_named", "test_scans_of_one_file_are_listed"),
        WAY: ("test_kspace_with_coils_last_after_the_remedy",),
    },
    "Bruker, odd MRD headers, BART base names, structs of MATLAB 7.3, an empty file": {
        KSPACE: (
            "test_scans_of_bruker_are_called_by_their_name",
            "test_odd_headers_of_mrd_are_read",
            "test_base_names_of_bart",
            "test_structs_of_matlab_with_two_parts",
            "test_an_empty_file_has_no_slices",
        ),
    },
    "a read-only folder": {INPUT: ("test_output_in_a_folder_that_may_not_be_written",)},
    "volumes with two phase encodings": {
        KSPACE: ("test_volumes_of_two_phase_encodings_are_refused_in_one_line",),
    },
}

SIBLINGS: dict[str, Line] = {
    "tables and grids of strangers": {
        TABLES: ("test_decimal_commas_whatever_the_encoding", "test_days_or_months_first",
                 "test_numbers_that_stand_for_missing_values", "test_a_coordinate_twice", "test_zarr_of_version_2"),
        WAY: ("test_a_table_with_semicolons_and_decimal_commas",),
    },
    "numbers, headers and dates of strangers": {
        NUMBERS: ("test_numbers_as_programs_write_them", "test_thousands_are_refused_with_what_helps",
                  "test_a_row_of_units_below_the_header", "test_a_word_that_stands_for_missing_values",
                  "test_more_columns_than_names", "test_a_name_twice", "test_numbers_that_are_dates",
                  "test_dates_as_numbers_of_another_calendar"),
    },
    "contradicting data at one place of a table": {
        NUMBERS: ("test_data_at_one_place_that_contradict_each_other",
                  "test_right_data_at_one_place_do_not_contradict_each_other"),
    },
    "gridded fields: curvilinear coordinates, infinite values, uneven axes": {
        NUMBERS: ("test_a_curvilinear_grid_is_said_to_be_numbered", "test_infinite_values_are_said_to_be_missing"),
        UNEVEN: ("test_the_law_of_fields_on_uneven_axes_is_found", "test_uneven_axes_that_have_no_law"),
    },
    "k-space: sizes of numbers, pairs of parts, echoes, averages, a second phase encoding": {
        MORE: ("test_coil_maps_do_not_depend_on_the_size_of_the_numbers",
               "test_pairs_of_real_and_imaginary_parts_in_fastmris_layout",
               "test_parts_along_an_axis_are_refused_with_what_helps",
               "test_other_echoes_are_left_out_and_said", "test_averages_are_averaged",
               "test_a_second_phase_encoding_is_refused_and_its_remedy_works"),
    },
    "a file of ECAT stays open": {PET: ("test_an_ecat_file_is_closed",)},
    "remedies are followed": {REMEDIES: ("test_every_option_that_a_refusal_names_works",)},
    "the generated page of formats and situations": {
        SITUATIONS: ("test_the_page_is_what_happens", "test_the_page_has_no_other_rows"),
    },
}  # fmt: skip

TABLES_OF_THE_ISSUE = {
    "silently wrong": SILENTLY_WRONG,
    "right input refused": REFUSED,
    "k-space": KSPACE_LINES,
    "siblings": SIBLINGS,
}
