//! Amounts as people write them.

use std::fmt;

/// Thousandths of a core as a decimal: 1500 is "1.5".
pub(crate) fn cpus(milli: u64) -> String {
    decimal(milli, 1000)
}

/// `value / unit`, rounded to hundredths, without zeros at the end.
fn decimal(value: u64, unit: u64) -> String {
    let hundredths = (u128::from(value) * 100 + u128::from(unit) / 2) / u128::from(unit);
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match (rest, rest % 10) {
        (0, _) => format!("{whole}"),
        (_, 0) => format!("{whole}.{}", rest / 10),
        _ => format!("{whole}.{rest:02}"),
    }
}

/// A number of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

const UNITS: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Bytes {
    /// The largest unit that fits in it at least once.
    pub(crate) fn unit(self) -> (&'static str, u64) {
        UNITS.iter().copied().find(|(_, unit)| self.0 >= *unit).unwrap_or(("B", 1))
    }

    /// In a unit of somebody else's, without its name.
    pub(crate) fn in_unit(self, unit: u64) -> String {
        decimal(self.0, unit)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = self.unit();
        write!(f, "{} {name}", self.in_unit(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(cpus(1500), "1.5");
        assert_eq!(cpus(2000), "2");
        assert_eq!(cpus(250), "0.25");
        assert_eq!(Bytes(2 << 30).to_string(), "2 GiB");
        assert_eq!(Bytes(1_288_490_189).to_string(), "1.2 GiB");
        assert_eq!(Bytes(1000).to_string(), "1000 B");
        assert_eq!(Bytes(u64::MAX).to_string(), "16777216 TiB");
    }
}
