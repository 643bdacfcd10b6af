from tests import kernels

AVX2_ALONE = {'sse4_1', 'avx2', 'fma'}


def test_every_level_of_onednn_meets_every_number_of_threads():
    aten, onednn = ['default', 'avx2', 'avx512'], ['SSE41', 'AVX2', 'AVX512_CORE']
    runs = kernels.combinations(aten, onednn)
    assert {(isa, count) for _, isa, count in runs} == {(isa, count) for isa in onednn for count in kernels.THREADS}
    assert len({(level, count) for level, _, count in runs}) == len(aten) * len(kernels.THREADS)
    assert len(runs) == 9


def test_what_the_processor_lacks_is_left_out_and_named():
    assert kernels.split(kernels.ATEN, AVX2_ALONE) == (['default', 'avx2'], ['avx512'])
    assert kernels.split(kernels.ONEDNN, AVX2_ALONE) == (['SSE41', 'AVX2'], ['AVX512_CORE', 'AVX512_CORE_AMX'])


def test_the_numeric_tests_are_where_the_list_says():
    assert [name for name in kernels.TESTS if not (kernels.ROOT / 'tests' / name).exists()] == []
