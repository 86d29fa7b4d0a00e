"""What is chosen by the features of the CPU."""

import numba

from numlstm.kernels import cpu


def test_the_tile_fits_the_registers_of_the_cpu():
    rows = cpu.TILE_VECTORS * cpu.TILE_ROWS
    assert rows == (16 if "avx512f" in cpu.features() else 4)


def test_cpu_features_are_those_numba_was_told(monkeypatch):
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+avx,-avx512f,+fma")
    assert cpu.features() == {"avx", "fma"}
