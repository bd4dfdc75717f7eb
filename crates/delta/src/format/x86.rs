//! Calls and jumps of x86 code, told by where they lead instead of how far: calls of one function look alike then.
//!
//! Behind an opcode E8 or E9 stand four bytes of distance, of which the last is 00 or FF in code. Places are counted
//! from the first byte that is given, in 25 bits with their sign, so that this byte remains one of the two, and the way
//! back finds the same opcodes.

use ondisk::num::{low32, to_u64};

/// Distances become places.
pub fn encode(bytes: &mut [u8]) {
    turn(bytes, u32::wrapping_add);
}

/// Places become distances again.
pub fn decode(bytes: &mut [u8]) {
    turn(bytes, u32::wrapping_sub);
}

fn turn(bytes: &mut [u8], by: fn(u32, u32) -> u32) {
    let mut at = 0_usize;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| byte & 0xfe == 0xe8))
    {
        at = at.saturating_add(found).saturating_add(1);
        let field = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>());
        let Some(field) = field else { break };
        // Whether an opcode counts depends on the byte that comes next then: nothing else may change it.
        at = at.saturating_add(3);
        if matches!(field, [_, _, _, 0 | 0xff]) {
            at = at.saturating_add(1);
            let place = by(u32::from_le_bytes(*field), low32(to_u64(at)));
            *field = place.wrapping_shl(7).cast_signed().wrapping_shr(7).to_le_bytes();
        }
    }
}

/// Whether bytes look like code: every sixtieth byte or so begins a call.
pub fn is_code(bytes: &[u8]) -> bool {
    let calls =
        bytes.array_windows::<5>().filter(|[op, .., high]| op & 0xfe == 0xe8 && matches!(high, 0 | 0xff));
    calls.count().saturating_mul(200) > bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut state = 1_u64;
        for len in 0..3000 {
            let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Many opcodes and many high bytes, in any order.
                match state >> 60 {
                    0..4 => 0xe8,
                    4..7 => 0xff,
                    7..10 => 0,
                    _ => ondisk::num::low8(state >> 50),
                }
            })
            .take(len)
            .collect();
            let before = bytes.clone();
            encode(&mut bytes);
            assert!(len < 100 || bytes != before);
            decode(&mut bytes);
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn calls_of_one_function_look_alike() {
        let mut bytes = [0xe8, 0x20, 0, 0, 0, 0x90, 0x90, 0x90, 0xe8, 0x18, 0, 0, 0];
        encode(&mut bytes);
        assert_eq!(bytes[1..5], bytes[9..13]);
        assert!(is_code(&bytes) && !is_code(&[0; 4096]));
    }
}
