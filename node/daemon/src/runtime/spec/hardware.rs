//! What `docker run` has and a service's spec has no field for: `--privileged` and `--device`. A service asks for them
//! by labels of its containers; a node grants them only when it was started with `--allow-privileged`.

use std::collections::BTreeMap;

use super::BadSpec;

/// `true` or `false`: all capabilities and all devices of the host.
pub(crate) const PRIVILEGED_LABEL: &str = "shoal.privileged";
/// Devices of the host, separated by commas, each `/dev/x`, `/dev/x:/dev/y` or `/dev/x:/dev/y:rwm`.
pub(crate) const DEVICES_LABEL: &str = "shoal.devices";

/// Which of the host's hardware a container may use beyond the ordinary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    pub privileged: bool,
    pub devices: Vec<Device>,
}

/// One device, as `docker run --device` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub on_host: String,
    pub in_container: String,
    /// Some of `r`, `w` and `m` (make nodes).
    pub permissions: String,
}

impl Hardware {
    /// Reads the labels of a container.
    ///
    /// # Errors
    /// [`BadSpec`] names the label that is malformed.
    pub fn of(labels: &BTreeMap<String, String>) -> Result<Self, BadSpec> {
        let bad =
            |label: &str, why: String| BadSpec::new(format!("ContainerSpec.Labels.{label}"), why);
        let privileged = match labels.get(PRIVILEGED_LABEL).map(String::as_str) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                return Err(bad(PRIVILEGED_LABEL, format!("'{other}' is neither true nor false")));
            }
        };
        let listed = labels.get(DEVICES_LABEL).map(String::as_str).unwrap_or_default();
        let devices = listed.split(',').map(str::trim).filter(|text| !text.is_empty());
        let read = |text: &str| {
            device(text).ok_or_else(|| {
                bad(
                    DEVICES_LABEL,
                    format!("'{text}' is not /dev/x, /dev/x:/dev/y or /dev/x:/dev/y:rwm"),
                )
            })
        };
        Ok(Self { privileged, devices: devices.map(read).collect::<Result<_, _>>()? })
    }

    /// Whether it asks for anything.
    pub fn is_asked_for(&self) -> bool {
        self.privileged || !self.devices.is_empty()
    }
}

fn device(text: &str) -> Option<Device> {
    let mut parts = text.split(':');
    let on_host = parts.next().filter(|path| path.starts_with('/'))?;
    let in_container = parts.next().unwrap_or(on_host);
    let permissions = parts.next().unwrap_or("rwm");
    let fine = in_container.starts_with('/')
        && !permissions.is_empty()
        && permissions.chars().all(|c| "rwm".contains(c))
        && parts.next().is_none();
    fine.then(|| Device {
        on_host: on_host.to_owned(),
        in_container: in_container.to_owned(),
        permissions: permissions.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> Result<Hardware, BadSpec> {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Hardware::of(&labels.collect())
    }

    #[test]
    fn labels_ask_for_hardware() {
        assert!(!of(&[("team", "a")]).unwrap().is_asked_for());
        assert!(of(&[(PRIVILEGED_LABEL, "true")]).unwrap().privileged);
        let devices = of(&[(DEVICES_LABEL, "/dev/kvm, /dev/a:/dev/b:r")]).unwrap().devices;
        let device = |on_host: &str, in_container: &str, permissions: &str| Device {
            on_host: on_host.into(),
            in_container: in_container.into(),
            permissions: permissions.into(),
        };
        assert_eq!(
            devices,
            [device("/dev/kvm", "/dev/kvm", "rwm"), device("/dev/a", "/dev/b", "r")]
        );
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (label, value) in [
            (PRIVILEGED_LABEL, "yes"),
            (DEVICES_LABEL, "kvm"),
            (DEVICES_LABEL, "/dev/a:b"),
            (DEVICES_LABEL, "/dev/a:/dev/b:x"),
            (DEVICES_LABEL, "/dev/a:/dev/b:r:w"),
        ] {
            let error = of(&[(label, value)]).unwrap_err();
            assert!(error.field.ends_with(label), "{error}");
        }
    }
}
