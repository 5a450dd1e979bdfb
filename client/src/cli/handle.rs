//! Persistent handles.

pub(crate) fn persistent_handle(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("handle:").unwrap_or(text);
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    u32::from_str_radix(digits, 16)
        .ok()
        .filter(|handle| (0x8100_0000..=0x81ff_ffff).contains(handle))
        .ok_or_else(|| "not a persistent handle: 0x81000000 to 0x81ffffff".to_owned())
}
