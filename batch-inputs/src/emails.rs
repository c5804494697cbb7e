//! E-mail addresses, lower-cased, or nothing.

const ADDRESS_BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;

/// The address in lower case; none when the text is no address that mail could be sent to. Quoted local parts and bare
/// IP addresses, which the standards allow and no shop's customer has, are none.
pub fn read_email(text: &str) -> Option<String> {
    let text = text.trim();
    let (local, domain) = text.rsplit_once('@')?;
    (text.len() <= ADDRESS_BYTES_MAX && is_local(local) && is_domain(domain)).then(|| text.to_lowercase())
}

fn is_local(local: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    local.len() <= LOCAL_BYTES_MAX && local.split('.').all(|part| !part.is_empty() && part.chars().all(allowed))
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let top = domain.rsplit_once('.').map(|(_, top)| top);
    domain.split('.').all(is_label)
        && top.is_some_and(|top| top.chars().count() >= 2 && !top.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_lower_cased_and_what_is_none_is_nothing() {
        for (text, address) in [
            ("client.00001@example.com", "client.00001@example.com"),
            (" Ada.LOVELACE+shop@Mail.Example.CO.UK ", "ada.lovelace+shop@mail.example.co.uk"),
            ("o'neil_x@exa-mple.fr", "o'neil_x@exa-mple.fr"),
            ("José@exämple.de", "josé@exämple.de"),
            ("a@b.xn--p1ai", "a@b.xn--p1ai"),
        ] {
            assert_eq!(read_email(text).as_deref(), Some(address), "{text}");
        }
        let long = format!("{}@example.com", "x".repeat(65));
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a b@c.de",
            "a@b c.de",
            "a@@b.de",
            "a@b@c.de",
            "a@b..de",
            "a@.de",
            "a@b.de.",
            ".a@b.de",
            "a.@b.de",
            "a..b@c.de",
            "a@-b.de",
            "a@b-.de",
            "a@b.d",
            "a@1.2.3.4",
            "n/a",
            "a@b,de",
            "<a@b.de>",
            "a;b@c.de",
            "a@b.de,c@d.de",
            "a\0@b.de",
            &long,
        ] {
            assert_eq!(read_email(text), None, "{text}");
        }
    }
}
