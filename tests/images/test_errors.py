import struct

from linfusion_cli.images.errors import DECODER_ERRORS, ImageError


def test_a_decoder_that_runs_out_of_memory_is_no_damaged_file() -> None:
    assert not issubclass(MemoryError, DECODER_ERRORS)
    assert not issubclass(ImageError, DECODER_ERRORS)
    assert issubclass(struct.error, DECODER_ERRORS)
