//! What is read, and what is refused in which words.

use ekm_otp::field::CredentialKind;
use ekm_otp::{Profile, Secret};

use super::*;
use crate::RegisteredKey;

fn parse_it(text: &str, is_json: bool, weak_secrets: bool) -> Result<MemoryStore, String> {
    parse(text, if is_json { Format::Json } else { Format::Toml }, weak_secrets)
}

// Test data, used nowhere else.
const SECRET: &str = "dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=";
const OTHER: &str = "b3RoZXIgdGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZQ==";

#[test]
fn a_fault_names_its_line_its_key_and_what_it_is_and_never_the_text() {
    let good = format!("[good]\nsecret = \"{SECRET}\"\nclient = \"Alice\"\n");
    for (entry, told) in [
        (format!("[good]\nsecret = \"{OTHER}\"\nclient = \"Bob\"\n"), "line 4: good: it stands twice"),
        (format!("[a.b]\nsecret = \"{OTHER}\"\nclient = \"Bob\"\n"), "a key id with any of . @ : / ~ + stands in quotes"),
        (format!("[bob]\nsecret = \"{OTHER}\"\n"), "line 4: bob: `client` is missing"),
        ("[bob]\nclient = \"Bob\"\n".to_owned(), "line 4: bob: `secret` is missing"),
        (format!("[bob]\nsecret = \"{OTHER}\"\nclient = \"Bob\"\nnote = \"{OTHER}\"\n"), "bob: it has a field that is none"),
        (format!("[bob]\nsecret = {OTHER}\nclient = \"Bob\"\n"), "line 5: bob: not understood"),
    ] {
        let refused = parse_it(&format!("{good}{entry}"), false, false).expect_err(told);
        assert!(refused.contains(told), "{told}: {refused}");
        assert!(!refused.contains(&SECRET[..8]) && !refused.contains(&OTHER[..8]), "{refused}");
    }
}

#[test]
fn a_long_secret_is_for_the_profile_go_only_and_is_what_hmac_makes_of_it() {
    // Python: base64.b64encode(bytes([7]) * 100), and of hashlib.sha256 of that
    let long = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==";
    let hashed = "2HaIW39A6ucL0fUkephUkU+lgSzmOZji2JSmjhh5Z8s=";
    let entry =
        |kid: &str, secret: &str, profile: &str| format!("[{kid}]\nsecret = \"{secret}\"\nclient = \"c\"\nprofile = \"{profile}\"\n");
    assert!(parse_it(&entry("k", long, "v1"), false, false).is_err_and(|why| why.contains("100 bytes, at most 64")));
    assert_eq!(parse_it(&entry("k", long, "go"), false, false).expect("a registry").len(), 1);
    let both = entry("k", long, "go") + &entry("h", hashed, "go");
    assert!(parse_it(&both, false, false).is_err_and(|why| why.contains("is the same as that of")), "HMAC cannot tell them apart");
}

/// By comparing each secret with each other one, this takes minutes.
#[test]
fn forty_thousand_keys_are_read_and_a_secret_that_stands_twice_is_found() {
    use fmt::Write as _;
    let mut text = String::new();
    for i in 0..40_000 {
        let secret = Secret::new(format!("test secret number {i:08}").into_bytes()).expect("a secret").encode_base64();
        writeln!(text, "[k{i}]\nsecret = \"{}\"\nclient = \"c\"", *secret).expect("text");
    }
    assert_eq!(parse_it(&text, false, false).expect("a registry").len(), 40_000);
    // S and S with a zero behind it are one HMAC key.
    let again = Secret::new(b"test secret number 00000007\0".to_vec()).expect("a secret").encode_base64();
    text += &format!("[again]\nsecret = \"{}\"\nclient = \"c\"\n", *again);
    let refused = parse_it(&text, false, false).expect_err("a secret of another key");
    assert!(refused.starts_with("the secret of k7 is the same as that of again:"), "{refused}");
}

#[test]
fn toml_and_json_hold_the_same() {
    let toml = format!("[client1]\nsecret = \"{SECRET}\"\nclient = \"Alice\"\n\n[\"a:b/c@d\"]\nsecret = \"{OTHER}\"\nclient = \"Bob\"\n");
    assert_eq!(parse_it(&toml, false, false).expect("TOML").len(), 2);
    let json = format!(r#"{{"client1":{{"secret":"{SECRET}","client":"Alice"}},"a:b/c@d":{{"secret":"{OTHER}","client":"Bob"}}}}"#);
    assert_eq!(parse_it(&json, true, false).expect("JSON").len(), 2);
}

#[test]
fn a_faulty_registry_is_refused_and_its_secret_is_not_shown() {
    for (fault, is_json, text) in [
        ("kid_twice", false, format!("[a]\nsecret=\"{SECRET}\"\nclient=\"A\"\n[a]\nsecret=\"{OTHER}\"\nclient=\"B\"")),
        ("kid_twice", true, format!(r#"{{"a":{{"secret":"{SECRET}","client":"A"}},"a":{{"secret":"{OTHER}","client":"B"}}}}"#)),
        ("secret_twice", false, format!("[a]\nsecret=\"{SECRET}\"\nclient=\"A\"\n[b]\nsecret=\"{SECRET}\"\nclient=\"B\"")),
        ("secret_is_the_entry", false, format!("a = \"{SECRET}\"")),
        ("secret_is_the_entry", true, format!(r#"{{"a":"{SECRET}"}}"#)),
        ("unknown_field", false, format!("[a]\nsecret=\"{SECRET}\"\nclient=\"A\"\nx=\"{SECRET}\"")),
        ("unknown_profile", false, format!("[a]\nsecret=\"{SECRET}\"\nclient=\"A\"\nprofile=\"{SECRET}\"")),
        ("unknown_credential", false, format!("[a]\nsecret=\"{SECRET}\"\nclient=\"A\"\ncredential=\"{SECRET}\"")),
        ("client_missing", false, format!("[a]\nsecret=\"{SECRET}\"")),
        ("not_base64", false, format!("[a]\nsecret=\"{SECRET}!\"\nclient=\"A\"")),
        ("secret_of_3_bytes", false, "[a]\nsecret=\"dGVz\"\nclient=\"A\"".to_owned()),
        ("kid_with_space", false, format!("[\"a b\"]\nsecret=\"{SECRET}\"\nclient=\"A\"")),
        ("unclosed_string", false, format!("[a]\nsecret=\"{SECRET}")),
    ] {
        let message = parse_it(&text, is_json, false).expect_err(fault);
        assert!(!message.contains(&SECRET[..12]) && !message.contains("dGVz"), "{fault}: {message}");
    }
}

/// What a registry holds, secrets told by whom the store finds them to belong to.
fn told(store: &MemoryStore, secrets: &[String]) -> Vec<String> {
    let told = std::cell::RefCell::new(Vec::new());
    let all = store.count(|key| {
        told.borrow_mut().push(format!("{} {} {} {}", key.kid(), key.client(), key.minimum(), key.profile()));
        true
    });
    assert_eq!(all, store.len());
    let holder = |text: &String| {
        let secret = Secret::new(Secret::decode_base64(text).expect("base64")).expect("a secret");
        store.add(RegisteredKey::new(KeyId::new("nobody").expect("a key id"), "", secret)).err().map(|why| why.to_string())
    };
    let mut told = told.into_inner();
    told.sort();
    told.extend(secrets.iter().filter_map(holder));
    told
}

#[test]
fn what_is_read_in_pieces_is_what_the_whole_says() {
    let secrets: Vec<String> = (0..8).map(|i| (*Secret::new(vec![i + 1; 32]).expect("a secret").encode_base64()).clone()).collect();
    let fields = |i: usize| format!("secret = \"{}\"\nclient = \"Client {i}\"\n", secrets[i]);
    let inline = |i: usize| format!("{{ secret = \"{}\", client = 'Client {i}' }}", secrets[i]);
    let (in_pieces_too, odd) = (
        [
            format!("[a]\n{}", fields(0)),
            format!("[b]\n{}", fields(1)).replace('\n', "\r\n"),
            format!("\t[ \"c.d\" ] # }}\n{}", fields(2)),
            format!("['e'] \n\n{}profile = \"go\" # {{}}\n", fields(3)),
            format!("f = {}\n", inline(4)),
            format!("'g' = {} # {{\n", inline(5)),
            format!("h = {}\n", inline(6).replace(' ', "\n ")),
            format!("i = [ \"{}\",\n \"Client\" ]\n", secrets[7]),
            format!("a.secret = \"{}\"\na . client = \"A\"\n", secrets[0]),
            "# [a] {}\n\n".to_owned(),
        ],
        [
            format!("[b]\nsecret = \"{}\"\nclient = \"\"\"}}\n[b]\n\"\"\"\n", secrets[1]),
            format!("[[c]]\n{}", fields(2)),
            format!("[d.e]\n{}", fields(3)),
            format!("j = {{\nsecret = \"{}\", client = '\'\'\n}}\nf = 1\n\'\'\' }}\n", secrets[6]),
            format!("k = [\n\"{}\",\n[]\n]\n", secrets[7]),
            format!("secret = \"{}\"\n", secrets[4]),
            "credential = 'jws' # }\n".to_owned(),
            "client = '\'\'\n[a]\n".to_owned(),
            "'\'\'\n".to_owned(),
            "x = {}\n".to_owned(),
            "\u{feff}".to_owned(),
            "\u{a0}[a]\n".to_owned(),
            "\r".to_owned(),
            "[a]".to_owned(),
            "]\n".to_owned(),
            "}\n".to_owned(),
        ],
    );
    for parts in in_pieces_too.iter().flat_map(|first| in_pieces_too.iter().map(move |second| [first, second])) {
        let text = parts.map(String::as_str).concat();
        assert_eq!(
            in_pieces::<MemoryStore>(&text, false).is_some(),
            as_a_whole::<MemoryStore>(&text, false).is_ok(),
            "read as a whole, with its memory: {text}"
        );
    }
    let parts = || in_pieces_too.iter().chain(&odd);
    let mut taken = 0;
    for text in parts().flat_map(|a| parts().flat_map(move |b| parts().map(move |c| [a.as_str(), b, c].concat()))) {
        if let Some(store) = in_pieces::<MemoryStore>(&text, false) {
            let whole = as_a_whole::<MemoryStore>(&text, false).unwrap_or_else(|why| panic!("{why} {text}"));
            assert_eq!(told(&store, &secrets), told(&whole, &secrets), "{text}");
            taken += 1;
        }
    }
    assert!(taken > 300, "only {taken} texts were compared");
}

#[test]
fn a_key_says_what_it_takes_and_which_wire_it_is_for() {
    let text =
        format!("[a]\nsecret=\"{SECRET}\"\nclient=\"A\"\ncredential=\"jwe\"\n[b]\nsecret=\"{OTHER}\"\nclient=\"B\"\nprofile=\"go\"\n");
    let store = parse_it(&text, false, false).expect("a registry");
    let key = |kid| crate::SecretStore::get(&store, &KeyId::new(kid).expect("a key id")).expect("an answer").expect("a key");
    assert_eq!((key("a").minimum(), key("a").profile()), (CredentialKind::Jwe, Profile::V1));
    assert_eq!((key("b").minimum(), key("b").profile()), (CredentialKind::Otp, Profile::Go));
}

#[test]
fn a_short_secret_is_taken_only_where_told_so() {
    let text = "[a]\nsecret=\"dGVz\"\nclient=\"A\"";
    assert!(parse_it(text, false, false).is_err());
    assert!(parse_it(text, false, true).is_ok());
}
