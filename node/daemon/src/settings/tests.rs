use std::path::Path;

use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn file(text: &str) -> Option<SettingsFile> {
    Some(SettingsFile::parse(Path::new("/etc/shoal/shoal.toml"), text).unwrap())
}

fn flags() -> PartialSettings {
    PartialSettings {
        name: Some("a".into()),
        listen: Some("127.0.0.1:7946".into()),
        ..PartialSettings::default()
    }
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let settings = Settings::layered(flags(), none, None).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7946");
    assert_eq!(settings.advertise, settings.listen);
    assert_eq!(settings.data_dir, Path::new("/var/lib/shoal"));
    assert_eq!(settings.api, Path::new("/run/shoal/docker.sock"));
    assert_eq!(settings.docker, Path::new("/var/run/docker.sock"));
    assert_eq!((settings.runtime, settings.profile), (RuntimeKind::Docker, Profile::Lan));
    assert_eq!(settings.reserve, Resources::default());
    assert!(
        settings.rebalance
            && !settings.allow_privileged
            && settings.join.is_empty()
            && settings.token.is_none()
    );
    assert_eq!(settings.log, "info");
}

#[test]
fn flags_win_over_environment_over_file() {
    let text = "name = 'from-file'\nzone = 'from-file'\nprofile = 'wan'\nreserve_cpu = 0.5\nrebalance = false\nallow_privileged = true\n[labels]\ndisk = 'ssd'\n";
    let env = |name: &str| match name {
        "SHOAL_NAME" => Some("from-env".to_owned()),
        "SHOAL_ZONE" => Some("from-env".to_owned()),
        "SHOAL_JOIN" => Some("h1:1, h2:2".to_owned()),
        _ => None,
    };
    let settings = Settings::layered(flags(), env, file(text)).unwrap();
    assert_eq!((settings.name.as_str(), settings.zone.as_str()), ("a", "from-env"));
    assert_eq!(settings.profile, Profile::Wan);
    assert_eq!(settings.reserve.cpu_milli, 500);
    assert!(!settings.rebalance && settings.allow_privileged);
    assert_eq!(settings.labels["disk"], "ssd");
    assert_eq!(settings.join, ["h1:1", "h2:2"]);
}

#[test]
fn requests_over_http_are_taken_where_it_says() {
    let set = |text: &str| Settings::layered(flags(), |_| None, file(text));
    let http = set("http = ':80'\nhttps = '[::1]:443'\ncertificates = '/c'\n").unwrap().http;
    assert_eq!(http.plain, Some("0.0.0.0:80".parse().unwrap()));
    assert_eq!(http.secure, Some("[::1]:443".parse().unwrap()));
    assert_eq!(http.certificates, Some("/c".into()));
    assert_eq!(set("").unwrap().http, crate::network::http::Settings::default());
    let said = |text| set(text).unwrap_err().to_string();
    assert!(said("https = ':443'").contains("certificates has no value"));
    assert!(said("http = ':0'").contains("port 0"));
    assert!(said("http = 'everywhere'").contains("http = 'everywhere'"));
    assert!(said("certificates = 'here'").contains("relative"));
}

#[test]
fn an_unknown_key_in_the_file_is_refused_with_its_place() {
    let error =
        SettingsFile::parse(Path::new("/x.toml"), "name = 'a'\nlisten_on = ':1'\n").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/x.toml") && text.contains("listen_on") && text.contains("line 2"),
        "{text}"
    );
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    assert!(matches!(
        SettingsFile::find(Some(Path::new("/nonexistent/shoal.toml")), none),
        Err(SettingsError::FileUnreadable { .. })
    ));
}

/// Every problem is named at once, with setting, value, source and what is valid.
#[test]
fn all_problems_are_reported_together() {
    let flags = PartialSettings {
        listen: Some("somewhere".into()),
        runtime: Some("podman".into()),
        join: Some(vec!["host-a".into()]),
        ..flags()
    };
    let env = |name: &str| (name == "SHOAL_API").then(|| "tcp://0.0.0.0:2375".to_owned());
    let errors = Settings::layered(flags, env, file("reserve_memory = 'lots'\n")).unwrap_err();
    let text = errors.to_string();
    assert_eq!(errors.0.len(), 5, "{text}");
    for expected in [
        "listen = 'somewhere' (from the flag --listen)",
        "runtime = 'podman' (from the flag --runtime)",
        "Valid: docker, process",
        "join = 'host-a' (from the flag --join): there is no port in it",
        "api = 'tcp://0.0.0.0:2375' (from the environment variable SHOAL_API)",
        "reserve_memory = 'lots' (from the file /etc/shoal/shoal.toml)",
    ] {
        assert!(text.contains(expected), "'{expected}' is not in: {text}");
    }
}

#[test]
fn a_token_is_read_from_its_file_and_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "SHOAL-1-secret\n").unwrap();
    let with_file = PartialSettings { token_file: Some(path.to_str().unwrap().into()), ..flags() };
    let settings = Settings::layered(with_file.clone(), none, None).unwrap();
    assert_eq!(settings.token.as_ref().unwrap().reveal(), "SHOAL-1-secret");
    assert!(!format!("{settings:?}").contains("secret"));

    let both = PartialSettings { token: Some("SHOAL-1-other".into()), ..with_file.clone() };
    assert!(!format!("{both:?}").contains("other"));
    let errors = Settings::layered(both, none, None).unwrap_err();
    assert!(matches!(errors.0[..], [SettingsError::TwoTokens(Source::Flag(_))]));

    let env = |name: &str| (name == "SHOAL_TOKEN").then(|| "from-env".to_owned());
    let settings = Settings::layered(with_file, env, None).unwrap();
    assert_eq!(settings.token.unwrap().reveal(), "SHOAL-1-secret");

    let missing = PartialSettings { token_file: Some("/nonexistent".into()), ..flags() };
    assert!(Settings::layered(missing, none, None).unwrap_err().to_string().contains("token_file"));
}

#[test]
fn sizes_and_cores_are_exact() {
    let reserve = |cpu: &str, memory: &str| {
        let flags = PartialSettings {
            reserve_cpu: Some(cpu.into()),
            reserve_memory: Some(memory.into()),
            ..flags()
        };
        Settings::layered(flags, none, None)
            .map(|s| (s.reserve.cpu_milli, s.reserve.memory_bytes))
            .ok()
    };
    assert_eq!(reserve("0.25", "512M"), Some((250, 512 << 20)));
    assert_eq!(reserve("2", "2GiB"), Some((2000, 2 << 30)));
    assert_eq!(reserve("1.5", "1024"), Some((1500, 1024)));
    assert_eq!(reserve(".5", "1kb"), Some((500, 1024)));
    for (cpu, memory) in
        [("-1", "0"), ("1.2345", "0"), ("", "0"), ("1e3", "0"), ("1", "x"), ("1", "99999999999T")]
    {
        assert_eq!(reserve(cpu, memory), None, "{cpu} {memory}");
    }
}

#[test]
fn what_must_not_be_taken_is_not() {
    let refused = |change: fn(&mut PartialSettings)| {
        let mut flags = flags();
        change(&mut flags);
        assert!(Settings::layered(flags.clone(), none, None).is_err(), "{flags:?}");
    };
    refused(|f| f.name = Some("two words".into()));
    refused(|f| f.listen = Some("127.0.0.1:0".into()));
    refused(|f| f.advertise = Some("0.0.0.0".into()));
    refused(|f| f.advertise = Some("host-a".into()));
    refused(|f| f.data_dir = Some("data".into()));
    refused(|f| f.docker = Some("tcp://1.2.3.4:2375".into()));
    refused(|f| f.api = Some(format!("unix:///{}", "x".repeat(200))));
    refused(|f| f.labels = Some(vec!["=x".into()]));
    refused(|f| f.labels = Some(vec!["a=1".into(), "a=2".into()]));
    refused(|f| f.join = Some(vec!["2001:db8::1:7946".into()]));
    refused(|f| f.log = Some("loud".into()));
    refused(|f| f.rebalance = Some("maybe".into()));
    refused(|f| f.token = Some("  ".into()));
}

#[test]
fn an_advertised_address_without_port_takes_the_port_of_listen() {
    let flags = PartialSettings { advertise: Some("10.0.0.5".into()), ..flags() };
    let settings = Settings::layered(flags, none, None).unwrap();
    assert_eq!(settings.advertise.to_string(), "10.0.0.5:7946");
}
