//! The 20-bit hit counter: a 16-bit mantissa m and a 4-bit exponent e stand
//! for m where e = 0, else for (2^16 + m) · 2^(e − 1). The 4 bits above are not
//! the counter's and are left as they are.

const MANTISSA: u32 = (1 << 16) - 1;
const COUNTER: u32 = (1 << 20) - 1;

/// The count that 20 bits stand for.
pub fn decode(bits: u32) -> u64 {
    let (m, e) = (u64::from(bits & MANTISSA), bits >> 16 & 15);
    if e == 0 {
        m
    } else {
        (m + (1 << 16)) << (e - 1)
    }
}

/// The 20 bits for a count, rounded down to what they can hold.
pub fn encode(count: u64) -> u32 {
    if count < 1 << 16 {
        return count as u32;
    }
    let e = count.ilog2() - 15;
    if e > 15 {
        return COUNTER;
    }
    // What is left after the shift lies in 2^16..2^17.
    (count >> (e - 1)) as u32 & MANTISSA | e << 16
}

/// Counts one more. `dice` is asked only past 2^17, and must be uniform.
#[inline]
pub fn raise(stored: u32, dice: impl FnOnce() -> u32) -> u32 {
    let counter = stored & COUNTER;
    let e = counter >> 16;
    if counter == COUNTER || (e > 1 && dice() >> (32 - (e - 1)) != 0) {
        return stored;
    }
    stored + 1
}
