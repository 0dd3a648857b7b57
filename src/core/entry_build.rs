//! Laying an entry out, as the drawing in `entry` has it.

use super::*;

/// How an entry is going to lie.
struct Layout {
    shape: usize,
    count: u16,
    /// Lengths of value and name where they need no more than has every entry.
    narrow: Option<(u16, u8)>,
    size: usize,
}

impl Layout {
    fn of(meta: &Meta, name: usize, value: usize, packed: bool, tags: usize) -> Result<Layout, BuildError> {
        let count = u16::try_from(tags).map_err(|_| BuildError::TooLong)?;
        if value > LONGEST_VALUE || name > LONGEST_VALUE {
            return Err(BuildError::TooLong);
        }
        let mut fields = meta.fields();
        let narrow = u16::try_from(value).ok().zip(u8::try_from(name).ok());
        if narrow.is_none() {
            fields |= WIDE;
        }
        let mut marks = if meta.adaptive.is_some() { ADAPTIVE } else { 0 };
        marks |= if packed { PACKED } else { 0 };
        if marks != 0 || u64::from(count) > FEW {
            fields |= MANY;
        } else {
            marks = u64::from(count);
        }
        let shape = usize::from(fields) | (marks as usize) << FIELDS.len();
        let size = BASE + usize::from(EXTENTS[shape]) + name + value + tags * TAG_BYTES;
        Ok(Layout { shape, count, narrow, size })
    }
}

/// The size of an entry that is yet to be built, with a value of so many bytes,
/// packed or not; `None` where it cannot be.
pub fn size_of(meta: &Meta, name: usize, value: usize, packed: bool, tags: usize) -> Option<usize> {
    Layout::of(meta, name, value, packed, tags).ok().map(|layout| layout.size)
}

/// Lays an entry out, in no index yet. The caller guarantees a sound `meta` and
/// tags that differ.
///
/// # Errors
/// [`BuildError`]; nothing is allocated then.
pub fn build(meta: &Meta, name: &[u8], value: Content<'_>, tags: &[TagId]) -> Result<Box<[u8]>, BuildError> {
    let (unpacked, value) = (value.unpacked(), value.stored());
    let layout = Layout::of(meta, name.len(), value.len(), unpacked.is_some(), tags.len())?;
    let Layout { shape, count, narrow, size } = layout;
    let fields = shape as u8 & FIELD_BITS;
    let (value_len, name_len) = narrow.unwrap_or((0, 0));
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size)?;

    let mut base = [0; BASE];
    let born = meta.born.0 | (shape as u64) << STAMP_BITS;
    base[..8].copy_from_slice(&born.to_le_bytes());
    base[8..14].copy_from_slice(&time_bytes(meta.fresh_until.map_or(NO_END, |end| end.0)));
    base[24..27].copy_from_slice(&hits::encode(meta.hits).to_le_bytes()[..3]);
    base[27..29].copy_from_slice(&value_len.to_le_bytes());
    base[29] = name_len;
    bytes.extend_from_slice(&base);
    if fields & GRACE != 0 {
        bytes.extend_from_slice(&time_bytes(meta.grace.0));
    }
    if fields & TIMES != 0 {
        bytes.extend_from_slice(&time_bytes(meta.written.0));
        bytes.extend_from_slice(&time_bytes(meta.length.map_or(NO_END, |length| length.0)));
    }
    if let Some(at) = meta.staled_at {
        bytes.extend_from_slice(&time_bytes(at.0));
    }
    if fields & COST != 0 {
        bytes.extend_from_slice(&meta.cost.0.to_le_bytes());
    }
    if fields & WIDE != 0 {
        // Both fit: LONGEST_VALUE is below 2^32.
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
    }
    if fields & MANY != 0 {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    if let Some(adaptive) = meta.adaptive {
        bytes.extend_from_slice(&adaptive.to_bytes());
    }
    if let Some(length) = unpacked {
        bytes.extend_from_slice(&length.to_le_bytes());
    }
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value);
    for tag in tags {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&NO_POSITION.to_le_bytes());
    }
    Ok(bytes.into_boxed_slice())
}
