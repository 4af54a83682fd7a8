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
        (
            "[[timeline]]\nat = '1s'\ndo = 'restore-disk'\non = 'host-2'",
            "timeline[1].do: there is no copy to restore",
        ),
        (
            "[[timeline]]\nat = '1s'\ndo = 'torn-write'\non = 'host-2'\nfor = '1s'\ndisk = 'new'",
            "'new' is not one of kept, damaged",
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
        "disk" => "disk = 'kept'\n".to_owned(),
        "loss" | "duplicated" | "reordered" | "share" => format!("{key} = '5%'\n"),
        _ => format!("{key} = '1s'\n"),
    };
    for word in action::WORDS {
        let all: String = [word.needs, word.takes].concat().into_iter().map(keys).collect();
        // What is to be restored has to be copied first.
        let before = match word.name {
            "restore-disk" => "[[timeline]]\nat = '0s'\ndo = 'copy-disk'\non = 'zone-1'\n",
            _ => "",
        };
        let text = format!("{PLAIN}{before}[[timeline]]\nat = '1s'\ndo = '{}'\n{all}", word.name);
        let scenario = Scenario::parse("x", &text).unwrap_or_else(|e| panic!("{}: {e}", word.name));
        assert_eq!(scenario.steps.last().map(|step| step.word), Some(word.name));
        assert!(!word.means.is_empty());
    }
}

#[test]
fn kinds_of_faults_have_names() {
    assert_eq!(kind_name(Kind::OneWay), "one-way");
    assert_eq!(kind_name(Kind::CrashWithDisk), "crash-with-disk");
}

/// Words that nothing in the library uses: each can be played, and what it breaks is mended in the end.
#[test]
fn rarer_words_are_played_and_healed() {
    let text = "title = 't'\nabout = 'a'\nlook_at = 'l'\nduration = '2m'\n[[hosts]]\ncount = 6\n[[services]]\nname = 'web'\nreplicas = 12\n\
        [[timeline]]\nat = '1s'\ndo = 'torn-write'\non = 'host-2'\nfor = '5s'\n\
        [[timeline]]\nat = '1s'\ndo = 'torn-write'\non = 'host-3'\nfor = '5s'\ndisk = 'damaged'\n\
        [[timeline]]\nat = '2s'\ndo = 'update'\nservice = 'web'\n\
        [[timeline]]\nat = '30s'\ndo = 'link'\nfrom = 'host-1'\nto = ['host-4', 'host-5']\nloss = '60%'\ndelay = ['5ms', '80ms']\nfor = '30s'\n\
        [[timeline]]\nat = '30s'\ndo = 'slow-pull'\non = 'host-6'\nby = '20s'\nfor = '20s'\n\
        [[timeline]]\nat = '30s'\ndo = 'crash-loop'\non = 'host-5'\nfor = '20s'\n\
        [[timeline]]\nat = '32s'\ndo = 'update'\nservice = 'web'\n\
        [[timeline]]\nat = '70s'\ndo = 'downgrade'\non = '50%'\napart = '5s'\nfor = '15s'\n\
        [[timeline]]\nat = '100s'\ndo = 'upgrade'\non = 'host-1'\n";
    let scenario = Scenario::parse("rare", text).unwrap();
    let maker = || crate::cores::real(crate::cores::settings());
    let played = play::play(&scenario, 3, false, None, maker());
    assert_eq!(played.outcome.count, 0, "{:#?}", played.outcome.violations);
    let told: Vec<&str> = played.outcome.figures.marks.iter().map(|mark| mark.what()).collect();
    for word in ["torn-write", "link", "slow-pull", "crash-loop", "downgrade", "upgrade"] {
        assert!(told.contains(&word), "{word} in {told:?}");
    }
    // The damaged disk was replaced, so its host is another node now, and its slots were lost.
    assert!(played.sheet.detected.count > 0, "{:?}", played.sheet);
}
