//! One file out of a form (`multipart/form-data`, RFC 7578): what a browser sends without scripts. The whole body is in memory, bounded by
//! the route; anything unexpected is refused.

/// A file of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormFile {
    /// Its name, as the browser says.
    pub name: String,
    /// Its content.
    pub body: Vec<u8>,
}

/// The file in the field `field`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn file(content_type: &str, body: &[u8], field: &str) -> Result<FormFile, &'static str> {
    const BROKEN: &str = "the form is not understood: send it as multipart/form-data";
    let boundary = boundary(content_type).ok_or(BROKEN)?;
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    // The first delimiter has no line end before it.
    let mut rest = body.strip_prefix(&delimiter[2..]).ok_or(BROKEN)?;
    loop {
        if rest.starts_with(b"--") {
            return Err("the form holds no file: choose one");
        }
        rest = rest.strip_prefix(b"\r\n").ok_or(BROKEN)?;
        let head_end = find(rest, b"\r\n\r\n").ok_or(BROKEN)?;
        let (head, after) = (&rest[..head_end], &rest[head_end + 4..]);
        let end = find(after, &delimiter).ok_or(BROKEN)?;
        let head = std::str::from_utf8(head).map_err(|_| BROKEN)?;
        if let Some(name) = file_name(head, field) {
            return if name.is_empty() {
                Err("the form holds no file: choose one")
            } else {
                Ok(FormFile { name, body: after[..end].to_vec() })
            };
        }
        rest = &after[end + delimiter.len()..];
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parts.find_map(|part| part.strip_prefix("boundary="))?.trim_matches('"');
    (1..=70).contains(&value.len()).then_some(value)
}

/// The file name of the wanted field; `None` when the head is another field's.
fn file_name(head: &str, field: &str) -> Option<String> {
    let line = head
        .split("\r\n")
        .find(|line| line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("content-disposition:")))?;
    let quoted = |key: &str| {
        let start = line.find(&format!("; {key}=\""))? + key.len() + 4;
        line.get(start..)?.split('"').next()
    };
    (quoted("name") == Some(field)).then(|| quoted("filename").unwrap_or_default().to_owned())
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=xYz";

    fn form(name: &str, content: &[u8]) -> Vec<u8> {
        let head = format!(
            "--xYz\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--xYz\r\nContent-Disposition: form-data; \
             name=\"file\"; filename=\"{name}\"\r\nContent-Type: image/png\r\n\r\n"
        );
        [head.as_bytes(), content, b"\r\n--xYz--\r\n"].concat()
    }

    #[test]
    fn the_file_comes_out_as_it_went_in() {
        let content = b"\x89PNG\r\n\r\n--xY\x00\r\n";
        let found = file(TYPE, &form("seal.png", content), "file").expect("a file");
        assert_eq!((found.name.as_str(), &found.body[..]), ("seal.png", &content[..]));
        assert!(file(TYPE, &form("", b""), "file").is_err(), "no file chosen");
        assert!(file(TYPE, &form("a", b"b"), "other").is_err());
    }

    #[test]
    fn nothing_sent_makes_it_fall_over() {
        let whole = form("seal.png", b"content");
        for end in 0..whole.len() {
            let _ = file(TYPE, &whole[..end], "file");
            let _ = file(TYPE, &whole[end..], "file");
        }
        for kind in [
            "",
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"xYz\"",
        ] {
            let _ = file(kind, &whole, "file");
        }
    }
}
