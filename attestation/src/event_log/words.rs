//! What an event says, for people (TCG PC Client Platform Firmware Profile, 10.4).

/// TCG_EVENTTYPE (10.4.1)
const NAMES: [(u32, &str); 34] = [
    (0x0000_0000, "EV_PREBOOT_CERT"),
    (0x0000_0001, "EV_POST_CODE"),
    (0x0000_0003, "EV_NO_ACTION"),
    (SEPARATOR, "EV_SEPARATOR"),
    (ACTION, "EV_ACTION"),
    (0x0000_0006, "EV_EVENT_TAG"),
    (0x0000_0007, "EV_S_CRTM_CONTENTS"),
    (CRTM_VERSION, "EV_S_CRTM_VERSION"),
    (0x0000_0009, "EV_CPU_MICROCODE"),
    (0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS"),
    (0x0000_000b, "EV_TABLE_OF_DEVICES"),
    (0x0000_000c, "EV_COMPACT_HASH"),
    (IPL, "EV_IPL"),
    (0x0000_000e, "EV_IPL_PARTITION_DATA"),
    (0x0000_000f, "EV_NONHOST_CODE"),
    (0x0000_0010, "EV_NONHOST_CONFIG"),
    (0x0000_0011, "EV_NONHOST_INFO"),
    (0x0000_0012, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (0x0000_0013, "EV_POST_CODE2"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (EFI_ACTION, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_000d, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
];
const SEPARATOR: u32 = 4;
const ACTION: u32 = 5;
const CRTM_VERSION: u32 = 8;
const IPL: u32 = 0xd;
const EFI_ACTION: u32 = 0x8000_0007;
/// What is shown of a text.
const MAX_SHOWN: usize = 160;

pub(super) fn name_of(kind: u32) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

pub(super) fn of(kind: u32, data: &[u8]) -> String {
    let name = name_of(kind).map_or_else(|| format!("an event of type 0x{:08x}", kind), str::to_owned);
    let said = match kind {
        SEPARATOR if data == [0; 4] || data == [0xff; 4] => Some("the end of what firmware measures here".to_owned()),
        SEPARATOR => Some("firmware met an error".to_owned()),
        CRTM_VERSION => utf16(data).or_else(|| text(data)).map(|version| format!("firmware version {version:?}")),
        ACTION | EFI_ACTION | IPL | 1 | 0x13 => text(data).or_else(|| utf16(data)).map(|text| format!("{text:?}")),
        0x8000_0001 | 0x8000_0002 | 0x8000_000c | 0x8000_00e0 => variable(data).map(|name| format!("the variable {name:?}")),
        0x8000_0003..=0x8000_0005 => file(data).map(|path| format!("the program {path:?}")),
        0x8000_0006 | 0x8000_000d => Some("the disk's table of partitions".to_owned()),
        0x8000_0008 | 0x8000_000a => Some("a part of the firmware".to_owned()),
        0x8000_0009 | 0x8000_000b => Some("tables that firmware hands to the system".to_owned()),
        _ => None,
    };
    match said {
        Some(said) => format!("{said} ({name})"),
        None => name,
    }
}

/// Printable ASCII, a zero at its end left out.
fn text(data: &[u8]) -> Option<String> {
    let data = data.strip_suffix(&[0]).unwrap_or(data);
    let text = std::str::from_utf8(data).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))?;
    Some(text.chars().take(MAX_SHOWN).collect())
}

/// UTF-16, little-endian, as UEFI has it.
fn utf16(data: &[u8]) -> Option<String> {
    let (units, []) = data.as_chunks::<2>() else { return None };
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0).take(MAX_SHOWN).collect();
    String::from_utf16(&units).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

/// UEFI_VARIABLE_DATA (10.2.5): a GUID, the name's length in characters, the data's length, the name, the data.
fn variable(data: &[u8]) -> Option<String> {
    let (len, rest) = data.get(16..)?.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?.checked_mul(2)?;
    utf16(rest.get(8..)?.get(..len)?)
}

/// UEFI_IMAGE_LOAD_EVENT (10.2.3): where it was loaded (8), its length (8), its link time address (8), the length of its device path (8), that path. Of the
/// path's nodes (UEFI 2.10, 10.3.1: type, subtype, length) those of files (4, 4).
fn file(data: &[u8]) -> Option<String> {
    let mut nodes = data.get(32..)?;
    let mut path = String::new();
    while let [kind, subtype, low, high, ..] = nodes {
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let (node, rest) = nodes.split_at_checked(len).filter(|_| len >= 4)?;
        if (*kind, *subtype) == (4, 4) {
            path += &utf16(&node[4..])?;
        }
        nodes = rest;
    }
    (!path.is_empty()).then_some(path)
}
