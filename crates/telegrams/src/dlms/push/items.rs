//! The values of a notification with their codes, taken as they lie in its bytes: this runs for every push of every meter.

use alloc::vec::Vec;

use super::{Form, Item};
use crate::{
    bytes::Cursor,
    dlms::axdr::{
        DEPTH_MAX, Value,
        flat::{self, Node},
        length,
    },
};

/// Why a body is not read here.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// It makes no sense.
    Bad,
    /// A compact array is in it.
    Compact,
}

/// The items of a body, and how they stand in it; `None` when it does not end where it says.
pub fn of(body: &[u8]) -> Option<(Vec<Item<'_>>, Form)> {
    match of_bytes(body) {
        Ok(read) => Some(read),
        Err(Left::Bad) => None,
        Err(Left::Compact) => Some(of_nodes(&flat::whole(body)?)),
    }
}

/// An item takes so many bytes at least, most often.
const BYTES_PER_ITEM: usize = 20;

fn of_bytes(body: &[u8]) -> Result<(Vec<Item<'_>>, Form), Left> {
    let mut reader = Reader { cursor: Cursor::new(body), items: Vec::with_capacity(body.len() / BYTES_PER_ITEM) };
    let form = match reader.element(0)? {
        Element::Group(count) => reader.group(count, 0)?,
        Element::Leaf(value) => {
            reader.items.push(Item { obis: None, value, scale: None });
            Form::Plain
        }
    };
    if reader.cursor.is_empty() { Ok((reader.items, form)) } else { Err(Left::Bad) }
}

enum Element<'a> {
    /// An array or a structure of so many.
    Group(usize),
    Leaf(Value<'a>),
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    items: Vec<Item<'a>>,
}

impl<'a> Reader<'a> {
    /// The next value, so many groups deep; of a group, its beginning.
    #[inline]
    fn element(&mut self, depth: usize) -> Result<Element<'a>, Left> {
        let tag = self.cursor.u8().filter(|_| depth < DEPTH_MAX).ok_or(Left::Bad)?;
        match tag {
            1 | 2 => {
                let count = length(&mut self.cursor).filter(|count| *count <= self.cursor.left());
                count.map(Element::Group).ok_or(Left::Bad)
            }
            19 => Err(Left::Compact),
            _ => Value::leaf(tag, &mut self.cursor).map(Element::Leaf).ok_or(Left::Bad),
        }
    }

    /// The elements of a group that lies in `depth` groups: an octet string of six that is an OBIS code names the value behind it.
    fn group(&mut self, count: usize, depth: usize) -> Result<Form, Left> {
        if let Some(codes) = self.object_list(count, depth)? {
            self.listed(&codes, count, depth)?;
            return Ok(Form::ObjectList);
        }
        let (mut left, mut form) = (count, Form::Plain);
        while left > 0 {
            left -= 1;
            let leaf = match self.element(depth + 1)? {
                Element::Group(count) => {
                    self.group(count, depth + 1)?;
                    continue;
                }
                Element::Leaf(leaf) => leaf,
            };
            let code = leaf.obis();
            if left + 1 == count && code.is_some_and(|obis| is_push_setup(&obis)) {
                form = Form::PushSetup;
            }
            let is_named = left > 0 && !matches!(self.cursor.peek(), Some(1 | 2 | 19));
            let Some(obis) = code.filter(|obis| is_named && is_code(obis)) else {
                self.items.push(Item { obis: None, value: leaf, scale: None });
                continue;
            };
            let Element::Leaf(value) = self.element(depth + 1)? else { return Err(Left::Bad) };
            left -= 1;
            let scale = if left > 0 { self.scale(depth + 1) } else { None };
            left -= usize::from(scale.is_some());
            self.items.push(Item { obis: Some(obis), value, scale });
        }
        Ok(form)
    }

    /// `{scaler, unit}` when it stands here.
    #[inline]
    fn scale(&mut self, depth: usize) -> Option<(i8, u8)> {
        let mut ahead = self.cursor.clone();
        (ahead.u8()? == 2 && length(&mut ahead)? == 2 && depth + 1 < DEPTH_MAX).then_some(())?;
        (ahead.u8()? == 15).then_some(())?;
        let scaler = i8::from_be_bytes(ahead.array()?);
        (ahead.u8()? == 22).then_some(())?;
        let unit = ahead.u8()?;
        self.cursor = ahead;
        Some((scaler, unit))
    }

    /// The codes of an object list `{class, code, attribute, index}…` that is the first of `count` elements; then it is passed over.
    fn object_list(&mut self, count: usize, depth: usize) -> Result<Option<Vec<[u8; 6]>>, Left> {
        if count == 0 || !matches!(self.cursor.peek(), Some(1 | 2)) {
            return Ok(None);
        }
        let start = self.cursor.clone();
        let codes = match self.element(depth + 1)? {
            Element::Group(entries) if entries == count || entries + 1 == count => self.codes(entries, depth + 2)?,
            _ => None,
        };
        if codes.is_none() {
            self.cursor = start;
        }
        Ok(codes)
    }

    fn codes(&mut self, entries: usize, depth: usize) -> Result<Option<Vec<[u8; 6]>>, Left> {
        if entries == 0 {
            return Ok(None);
        }
        let mut codes = Vec::new();
        for _ in 0..entries {
            let Element::Group(4) = self.element(depth)? else { return Ok(None) };
            let Element::Leaf(Value::Unsigned(_, 2)) = self.element(depth + 1)? else { return Ok(None) };
            let Element::Leaf(code) = self.element(depth + 1)? else { return Ok(None) };
            let Element::Leaf(Value::Signed(..)) = self.element(depth + 1)? else { return Ok(None) };
            let Element::Leaf(Value::Unsigned(..)) = self.element(depth + 1)? else { return Ok(None) };
            let Some(code) = code.obis() else { return Ok(None) };
            codes.push(code);
        }
        Ok(Some(codes))
    }

    /// The values behind an object list, one for each code; the list itself may be its own first entry.
    fn listed(&mut self, codes: &[[u8; 6]], count: usize, depth: usize) -> Result<(), Left> {
        let mut codes = codes.iter();
        if codes.len() == count {
            self.items.extend(codes.next().map(|obis| Item { obis: Some(*obis), value: Value::DontCare, scale: None }));
        }
        for obis in codes {
            let value = match self.element(depth + 1)? {
                Element::Leaf(value) => value,
                // A group is no value; its place is kept.
                Element::Group(count) => {
                    self.skip(count, depth + 1)?;
                    Value::DontCare
                }
            };
            self.items.push(Item { obis: Some(*obis), value, scale: None });
        }
        Ok(())
    }

    /// Passes over the elements of a group that lies in `depth` groups.
    fn skip(&mut self, count: usize, depth: usize) -> Result<(), Left> {
        for _ in 0..count {
            if let Element::Group(count) = self.element(depth + 1)? {
                self.skip(count, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// The same of a body that was read before: compact arrays carry their types apart.
fn of_nodes<'a>(nodes: &[Node<'a>]) -> (Vec<Item<'a>>, Form) {
    let mut items = Vec::with_capacity(nodes.len() / NODES_PER_ITEM);
    let elements = flat::inside(nodes).unwrap_or_default();
    let form = match elements.first() {
        _ if object_list(elements).is_some() => Form::ObjectList,
        Some(Node::Leaf(first)) if first.obis().is_some_and(|obis| is_push_setup(&obis)) => Form::PushSetup,
        _ => Form::Plain,
    };
    match nodes.first() {
        Some(Node::Leaf(leaf)) => items.push(Item { obis: None, value: leaf.clone(), scale: None }),
        _ => collect(elements, &mut items),
    }
    (items, form)
}

/// A structure, code, value, scaler and unit.
const NODES_PER_ITEM: usize = 5;

/// Gathers leaves: an octet string of six that is an OBIS code names the value behind it.
fn collect<'a>(siblings: &[Node<'a>], out: &mut Vec<Item<'a>>) {
    if let Some(paired) = object_list(siblings) {
        out.extend(paired);
        return;
    }
    let mut rest = siblings;
    while let Some((value, behind)) = flat::first(rest) {
        rest = behind;
        let Some(Node::Leaf(leaf)) = value.first() else {
            collect(&value[1..], out);
            continue;
        };
        match (leaf.obis().filter(is_code), behind.first()) {
            (Some(obis), Some(Node::Leaf(named))) => {
                rest = &behind[1..];
                let scale = flat::first(rest).and_then(|(next, behind)| Some((scaler_and_unit(next)?, behind)));
                if let Some((_, behind)) = scale {
                    rest = behind;
                }
                out.push(Item { obis: Some(obis), value: named.clone(), scale: scale.map(|(scale, _)| scale) });
            }
            _ => out.push(Item { obis: None, value: leaf.clone(), scale: None }),
        }
    }
}

/// Six bytes that are the code of an object and not a text: media 0 to 15, no billing period or 255.
fn is_code(obis: &[u8; 6]) -> bool {
    !is_push_setup(obis)
        && obis[0] <= 15
        && (obis[5] == 255 || obis[5] <= 99)
        && !obis.iter().all(|byte| (b'0'..=b'z').contains(byte))
}

/// The code of a push setup says who pushes and names no value behind it.
fn is_push_setup(obis: &[u8; 6]) -> bool {
    obis[0] == 0 && obis[2..4] == [25, 9]
}

/// `{scaler, unit}` of a list of nodes.
fn scaler_and_unit(value: &[Node<'_>]) -> Option<(i8, u8)> {
    match value {
        [
            Node::Group { is_structure: true, .. },
            Node::Leaf(Value::Signed(scaler, 1)),
            Node::Leaf(Value::Enum(unit)),
        ] => Some((i8::try_from(*scaler).ok()?, *unit)),
        _ => None,
    }
}

/// A push that begins with its own object list `{class, code, attribute, index}…`, then one value for each.
fn object_list<'a>(siblings: &[Node<'a>]) -> Option<Vec<Item<'a>>> {
    let (list, behind) = flat::first(siblings)?;
    let code = |entry: &[Node<'a>]| match flat::inside(entry)? {
        [
            Node::Leaf(Value::Unsigned(_, 2)),
            Node::Leaf(code),
            Node::Leaf(Value::Signed(..)),
            Node::Leaf(Value::Unsigned(..)),
        ] => code.obis(),
        _ => None,
    };
    let entries = flat::inside(list)?;
    // Most groups are no list: nothing is reserved before the first entry fits.
    code(flat::first(entries)?.0)?;
    let codes: Vec<[u8; 6]> = flat::values(entries).map(code).collect::<Option<_>>()?;
    // The list itself may be its own first entry.
    let count = flat::values(siblings).count();
    let values = match codes.len() {
        n if n == count => siblings,
        n if n + 1 == count => behind,
        _ => return None,
    };
    let item = |(obis, value): ([u8; 6], &[Node<'a>])| match value.first() {
        Some(Node::Leaf(leaf)) => Item { obis: Some(obis), value: leaf.clone(), scale: None },
        // A group is no value; its place is kept.
        _ => Item { obis: Some(obis), value: Value::DontCare, scale: None },
    };
    Some(codes.into_iter().zip(flat::values(values)).map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn listed(class: u16, code: &'static [u8]) -> Value<'static> {
        let fields =
            vec![Value::Unsigned(class.into(), 2), Value::Octets(code), Value::Signed(2, 1), Value::Unsigned(0, 2)];
        Value::Structure(fields)
    }

    /// A random body out of what stands in pushes.
    fn value(next: &mut impl FnMut(u32) -> u32, depth: u32) -> Value<'static> {
        const CODE: &[u8] = &[1, 0, 1, 8, 0, 255];
        match next(if depth > 3 { 7 } else { 11 }) {
            0 | 1 => Value::Octets(CODE),
            2 => Value::Octets(&[0, 6, 25, 9, 0, 255]),
            3 => Value::Unsigned(7, 4),
            4 => Value::Octets(b"A-4711"),
            5 => Value::Null,
            6 => Value::Signed(-1, 1),
            7 => Value::Structure(vec![Value::Signed(-1, 1), Value::Enum(30)]),
            8 => Value::Array((0..1 + next(2)).map(|_| listed(3, CODE)).collect()),
            _ => {
                let count = next(5);
                let items = (0..count).map(|_| value(next, depth + 1)).collect();
                if next(2) == 0 { Value::Structure(items) } else { Value::Array(items) }
            }
        }
    }

    /// Two readers, one through a list of nodes and one straight from the bytes: the same of every body, whole or damaged.
    #[test]
    fn bytes_and_nodes_give_the_same_items() {
        let mut state = 1_u32;
        let mut next = |limit: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % limit
        };
        let (mut lists, mut setups, mut scaled) = (0, 0, 0);
        for round in 0..30_000 {
            let mut bytes = value(&mut next, 0).encoded();
            if round % 3 == 0 {
                let at = next(bytes.len() as u32) as usize;
                bytes[at] ^= 1 << next(8);
            }
            let by_nodes = flat::whole(&bytes).map(|nodes| of_nodes(&nodes));
            assert_eq!(of(&bytes), by_nodes, "{bytes:02x?}");
            if let Some((items, form)) = by_nodes {
                lists += usize::from(form == Form::ObjectList);
                setups += usize::from(form == Form::PushSetup);
                scaled += usize::from(items.iter().any(|item| item.scale.is_some()));
            }
        }
        assert!(lists > 20 && setups > 20 && scaled > 20, "{lists} {setups} {scaled}");
        for depth in 0..20 {
            let tail = [9, 6, 1, 0, 1, 8, 0, 255, 17, 5, 2, 2, 15, 0, 22, 30];
            let deep = [[2, 1].repeat(depth), vec![2, 3], tail.to_vec()].concat();
            assert_eq!(of(&deep), flat::whole(&deep).map(|nodes| of_nodes(&nodes)), "{depth}");
        }
    }
}
