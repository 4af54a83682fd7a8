use super::*;

const PLAIN: &str = "title = 't'\nabout = 'a'\nlook_at = 'l'\nduration = '1m'\n[[hosts]]\ncount = 4\nzones = 2\n[[services]]\nname = 'web'\nreplicas = 4\n";

fn errors(more: &str) -> String {
    Scenario::parse("my.toml", &format!("{PLAIN}{more}")).unwrap_err().to_string()
}

#[test]
fn errors_name_the_file_the_key_and_what_would_be_right() {
    for (more, says) in [
        (
            "[[timeline]]\nat = 'soon'\ndo = 'crash'\non = 'random'",
            "timeline[1].at: 'soon' is no duration",
        ),
        (
            "[[timeline]]\nat = '1s'\ndo = 'crush'\non = 'random'",
            "timeline[1].do: 'crush' is no word for a step. Did you mean",
        ),
        ("[[timeline]]\nat = '1s'\ndo = 'crash'", "timeline[1].on: is missing"),
        (
            "[[timeline]]\nat = '1s'\ndo = 'crash'\non = 'mars'",
            "timeline[1].on: no host or group is called 'mars'",
        ),
        (
            "[[timeline]]\nat = '1s'\ndo = 'crash'\non = 'all'\nloss = '5%'",
            "timeline[1].loss: means nothing to 'crash'",
        ),
        ("[[timeline]]\nat = '2m'\ndo = 'heal'", "lies after the end"),
        (
            "[[timeline]]\nat = '50s'\ndo = 'freeze'\non = 'random'\nevery = '20s'\ntimes = 2",
            "lies after the end",
        ),
        (
            "[[timeline]]\nat = '1s'\ndo = 'freeze'\non = 'random'\nevery = '20s'",
            "goes together with `times`",
        ),
        (
            "[[timeline]]\nat = '1s'\ndo = 'scale'\nservice = 'wep'\nreplicas = 3",
            "no service is called 'wep': there are web",
        ),
        ("[[timeline]]\nat = '1s'\ndo = 'crash'\non = 'all'\ndisk = 'new'", "takes `for`"),
        (
            "[[timeline]]\nat = '1s'\ndo = 'create'\nspec = { name = 'web' }",
            "two services are called 'web'",
        ),
        (
            "[[timeline]]\nat = '1s'\ndo = 'network'\nloss = '200%'",
            "timeline[1].loss: '200%' is more than 100%",
        ),
        (
            "[[timeline]]\nat = '1s'\ndo = 'freeze'\non = 'all'\nfor = ['9s', '1s']",
            "the least comes first",
        ),
        ("[churn]\nfaults = ['one-ways']", "did you mean 'one-way'?"),
        ("[churn]\noperators = false", "leave [churn] out"),
        ("[expect]\nrecovered_within = '5'", "expect.recovered_within"),
        ("[expect]\nno_failures = true", "unknown field `no_failures`"),
        ("[network]\ndelay = ['1s', '2s', '3s']", "network.delay: write one duration, or"),
    ] {
        let text = errors(more);
        assert!(text.contains("my.toml"), "{text}");
        assert!(text.to_lowercase().contains(&says.to_lowercase()), "{more}: {text}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let text =
        errors("[[timeline]]\nat = 'x'\ndo = 'crash'\non = 'mars'\n[expect]\ngap_at_most = 'y'");
    assert_eq!(text.lines().filter(|line| line.starts_with("  ")).count(), 3, "{text}");
}

#[test]
fn what_is_no_toml_is_said_with_its_line() {
    let text = errors("[[timeline]\n");
    assert!(text.contains("line 11"), "{text}");
    assert!(Scenario::parse("x", &"#".repeat(MOST_BYTES + 1)).is_err());
}

#[test]
fn each_word_has_an_action_and_takes_its_keys() {
    let keys = |key: &str| match key {
        "on" | "from" => format!("{key} = 'zone-1'\n"),
        "to" => "to = 'zone-2'\n".to_owned(),
        "for" | "start" | "delay" => format!("{key} = ['1s', '2s']\n"),
        "service" => "service = 'web'\n".to_owned(),
        "replicas" => "replicas = 2\n".to_owned(),
        "spec" => "spec = { name = 'db' }\n".to_owned(),
        "containers" => "containers = true\n".to_owned(),
        "disk" => "disk = 'new'\n".to_owned(),
        "loss" | "duplicated" | "reordered" | "share" => format!("{key} = '5%'\n"),
        _ => format!("{key} = '1s'\n"),
    };
    for word in action::WORDS {
        let all: String = [word.needs, word.takes].concat().into_iter().map(keys).collect();
        let text = format!("{PLAIN}[[timeline]]\nat = '1s'\ndo = '{}'\n{all}", word.name);
        let scenario = Scenario::parse("x", &text).unwrap_or_else(|e| panic!("{}: {e}", word.name));
        assert_eq!(scenario.steps[0].word, word.name);
        assert!(!word.means.is_empty());
    }
}

#[test]
fn kinds_of_faults_have_names() {
    assert_eq!(kind_name(Kind::OneWay), "one-way");
    assert_eq!(kind_name(Kind::CrashWithDisk), "crash-with-disk");
}
