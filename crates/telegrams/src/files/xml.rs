//! A small tree of XML elements: names without prefixes, texts, attributes. Depth and count are bounded.

use quick_xml::{Reader, events::Event};

use crate::Fault;

const DEPTH_MAX: usize = 64;
const ELEMENTS_MAX: usize = 8_000_000;

/// One element.
#[derive(Clone, Debug, Default)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// Attributes, local names.
    pub attributes: Vec<(String, String)>,
    /// Its own text, trimmed.
    pub text: String,
    /// Elements inside.
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of a name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Text of a child.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str()).filter(|text| !text.is_empty())
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Itself and all elements inside, in order of the file.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Element)) {
        visit(self);
        self.children.iter().for_each(|child| child.walk(visit));
    }
}

/// Parses a document.
pub fn parse(text: &str) -> Result<Element, Fault> {
    let bad = |why: String| Fault::structure(format!("not XML: {why}"));
    let mut reader = Reader::from_str(text);
    let mut stack = vec![Element::default()];
    let mut count = 0;
    loop {
        match reader.read_event().map_err(|why| bad(why.to_string()))? {
            Event::Start(start) => {
                stack.push(element(&start)?);
                count += 1;
            }
            Event::Empty(start) => {
                let element = element(&start)?;
                count += 1;
                if let Some(parent) = stack.last_mut() {
                    parent.children.push(element);
                }
            }
            Event::End(_) => {
                let Some(done) = stack.pop().filter(|_| !stack.is_empty()) else {
                    return Err(bad("an end too many".into()));
                };
                if let Some(parent) = stack.last_mut() {
                    parent.children.push(done);
                }
            }
            Event::Text(content) => {
                let content: &str = content.as_ref();
                let content = content.trim();
                if let Some(open) = stack.last_mut() {
                    open.text.push_str(content);
                }
            }
            Event::Eof => break,
            _ => {}
        }
        if stack.len() > DEPTH_MAX || count > ELEMENTS_MAX {
            return Err(Fault::TooLong("the XML document"));
        }
    }
    let root = stack.pop().filter(|_| stack.is_empty()).ok_or_else(|| bad("an element that does not end".into()))?;
    if root.children.is_empty() { Err(bad("no element".into())) } else { Ok(root) }
}

fn element(start: &quick_xml::events::BytesStart<'_>) -> Result<Element, Fault> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|why| Fault::structure(format!("not XML: {why}")))?;
        attributes.push((attribute.key.local_name().as_ref().into(), attribute.value.into_owned()));
    }
    Ok(Element { name: start.local_name().as_ref().into(), attributes, ..Element::default() })
}
