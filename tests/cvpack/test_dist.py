"""One process as a world of one."""

from cvpack import dist


def test_one_process_is_a_world_of_one():
    assert (dist.rank(), dist.world_size(), dist.is_main(), dist.is_distributed()) == (0, 1, True, False)
    dist.barrier()
    assert dist.gather('x') == ['x']
