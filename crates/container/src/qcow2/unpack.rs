//! Compressed clusters. The output is bounded by the cluster, the working memory by the window.

use super::header::Compression;
use flate2::{Decompress, FlushDecompress};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// log₂ of the largest window of a zstd frame: 8 MiB, which every decoder should admit.
const WINDOW_LOG_MAX: u32 = 23;

/// Fills `out` from a stream; what follows in `packed` is ignored.
pub fn unpack(how: Compression, packed: &[u8], out: &mut [u8]) -> Result<(), String> {
    let filled = match how {
        Compression::Deflate => inflate(packed, out)?,
        Compression::Zstd => unzstd(packed, out)?,
    };
    if filled == out.len() { Ok(()) } else { Err(format!("it ends after {filled} bytes")) }
}

fn inflate(packed: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let mut stream = Decompress::new(false);
    stream.decompress(packed, out, FlushDecompress::Finish).map_err(|error| error.to_string())?;
    Ok(ondisk::num::to_usize(stream.total_out()))
}

fn unzstd(packed: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let mut decoder = Decoder::new().map_err(|error| error.to_string())?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|error| error.to_string())?;
    let mut input = InBuffer::around(packed);
    let mut output = OutBuffer::around(out);
    loop {
        let before = (input.pos(), output.pos());
        let more = decoder.run(&mut input, &mut output).map_err(|error| error.to_string())?;
        if more == 0 || output.pos() == output.capacity() || before == (input.pos(), output.pos()) {
            return Ok(output.pos());
        }
    }
}
