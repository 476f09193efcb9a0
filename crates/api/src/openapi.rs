//! The API's description of itself (OpenAPI 3.0), made of the table of routes and of the bodies' types.
//!
//! A type's schema is found by reading it: a deserializer that has no data writes down what it is asked for, and answers
//! with the emptiest value of that kind.

use errdefs::Result;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::reply::Reply;
use crate::routes::{ROUTES, Route};
use crate::version::NEWEST;

/// Writes a type's schema.
pub type Schema = fn(&mut Schemas) -> Value;

/// The schemas that have names.
pub type Schemas = Map<String, Value>;

/// A parameter of a query.
#[derive(Clone, Copy)]
pub struct Param {
    name: &'static str,
    kind: &'static str,
    many: bool,
    required: bool,
}

/// One that is true or false.
pub const fn flag(name: &'static str) -> Param {
    Param {
        name,
        kind: "boolean",
        many: false,
        required: false,
    }
}

/// One that is a whole number.
pub const fn number(name: &'static str) -> Param {
    Param {
        kind: "integer",
        ..flag(name)
    }
}

/// One that is text.
pub const fn text(name: &'static str) -> Param {
    Param {
        kind: "string",
        ..flag(name)
    }
}

impl Param {
    /// Without it there is nothing to do.
    pub const fn required(self) -> Param {
        Param { required: true, ..self }
    }

    /// It may come more than once.
    pub const fn many(self) -> Param {
        Param { many: true, ..self }
    }
}

/// A type's schema.
pub fn of<T: DeserializeOwned>(schemas: &mut Schemas) -> Value {
    let mut out = json!({});
    // What a type refuses of emptiness costs the rest of its schema, not more.
    let _ = T::deserialize(Tracer { schemas, out: &mut out });
    out
}

/// A list's.
pub fn list_of<T: DeserializeOwned>(schemas: &mut Schemas) -> Value {
    json!({"type": "array", "items": of::<T>(schemas)})
}

/// Anything.
pub fn any(_: &mut Schemas) -> Value {
    json!({})
}

/// Bytes.
pub fn bytes(_: &mut Schemas) -> Value {
    json!({"type": "string", "format": "binary"})
}

/// What is made is told by its id.
pub fn id(_: &mut Schemas) -> Value {
    json!({"type": "object", "required": ["Id"], "properties": {"Id": {"type": "string"}}})
}

/// `GET /swagger`.
pub fn swagger(_: &engine::Engine, _: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &describe()))
}

/// All of it.
pub fn describe() -> Value {
    let (mut schemas, mut paths) = (Schemas::new(), Map::new());
    let error = of::<engine::models::ErrorResponse>(&mut schemas);
    for route in ROUTES {
        let path = route.path.replacen("{}", "{name}", 1).replacen("{*}", "{name}", 1);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.to_ascii_lowercase()] = operation(route, &error, &mut schemas);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Docker Engine's API, as Berth serves it",
            "version": NEWEST.to_string(),
            "description": "Every path may have a version before it, such as /v1.44. Without one it is the newest."
        },
        "paths": paths,
        "components": {"schemas": schemas}
    })
}

fn operation(route: &Route, error: &Value, schemas: &mut Schemas) -> Value {
    let about = &route.about;
    let mut parameters: Vec<Value> = about.query.iter().map(parameter).collect();
    if route.path.contains('{') {
        parameters.push(json!({
            "name": "name", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}
        }));
    }
    let mut answers = json!({"default": {"description": "what went wrong"}});
    if route.method != "HEAD" {
        answers["default"]["content"] = json!({"application/json": {"schema": error}});
    }
    for (status, kind, schema) in about.answers {
        let mut answer = json!({"description": "done"});
        if let Some(schema) = schema {
            answer["content"][*kind]["schema"] = schema(schemas);
        }
        answers[status.to_string()] = answer;
    }
    let id = format!("{} {}", route.method, route.path);
    let mut operation =
        json!({"operationId": id, "tags": [route.name], "parameters": parameters, "responses": answers});
    if let Some((required, kind, schema)) = about.body {
        let content = json!({kind: {"schema": schema(schemas)}});
        operation["requestBody"] = json!({"required": required, "content": content});
    }
    operation
}

fn parameter(param: &Param) -> Value {
    let schema = match param.many {
        true => json!({"type": "array", "items": {"type": param.kind}}),
        false => json!({"type": param.kind}),
    };
    json!({"name": param.name, "in": "query", "required": param.required, "schema": schema})
}

/// Has no data, and writes down what it is asked for.
struct Tracer<'a> {
    schemas: &'a mut Schemas,
    out: &'a mut Value,
}

type Failed = de::value::Error;

impl Tracer<'_> {
    /// The same place, by another hand.
    fn again<'b>(schemas: &'b mut Schemas, out: &'b mut Value) -> Tracer<'b> {
        Tracer { schemas, out }
    }
}

macro_rules! plain {
    ($($method:ident => $visit:ident($($value:expr)?), $schema:tt;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Failed> {
            *self.out = json!($schema);
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Failed;

    plain! {
        deserialize_bool => visit_bool(false), {"type": "boolean"};
        deserialize_i8 => visit_i8(0), {"type": "integer"};
        deserialize_i16 => visit_i16(0), {"type": "integer"};
        deserialize_i32 => visit_i32(0), {"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX};
        deserialize_i64 => visit_i64(0), {"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX};
        deserialize_u8 => visit_u8(0), {"type": "integer", "minimum": 0, "maximum": u8::MAX};
        deserialize_u16 => visit_u16(0), {"type": "integer", "minimum": 0, "maximum": u16::MAX};
        deserialize_u32 => visit_u32(0), {"type": "integer", "minimum": 0, "maximum": u32::MAX};
        deserialize_u64 => visit_u64(0), {"type": "integer", "minimum": 0, "maximum": u64::MAX};
        deserialize_f32 => visit_f32(0.0), {"type": "number"};
        deserialize_f64 => visit_f64(0.0), {"type": "number"};
        deserialize_char => visit_char('a'), {"type": "string"};
        deserialize_str => visit_borrowed_str(""), {"type": "string"};
        deserialize_string => visit_borrowed_str(""), {"type": "string"};
        deserialize_identifier => visit_borrowed_str(""), {"type": "string"};
        deserialize_bytes => visit_borrowed_bytes(b""), {"type": "string"};
        deserialize_byte_buf => visit_borrowed_bytes(b""), {"type": "string"};
        deserialize_unit => visit_unit(), {};
        deserialize_any => visit_unit(), {};
        deserialize_ignored_any => visit_unit(), {};
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Failed> {
        let mut inner = json!({});
        let value = visitor.visit_some(Tracer::again(self.schemas, &mut inner));
        // Nothing may stand beside a reference.
        *self.out = if inner.get("$ref").is_some() {
            json!({"allOf": [inner]})
        } else {
            inner
        };
        self.out["nullable"] = true.into();
        value
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> std::result::Result<V::Value, Failed> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> std::result::Result<V::Value, Failed> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Failed> {
        self.deserialize_tuple(1, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> std::result::Result<V::Value, Failed> {
        let mut item = json!({});
        let value = visitor.visit_seq(Items {
            schemas: self.schemas,
            item: &mut item,
            left: length,
        });
        *self.out = json!({"type": "array", "items": item});
        value
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> std::result::Result<V::Value, Failed> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Failed> {
        let mut fields = Fields {
            schemas: self.schemas,
            names: [""].iter(),
            name: "",
            schemas_of: Map::new(),
        };
        let value = visitor.visit_map(&mut fields);
        let item = fields.schemas_of.remove("").unwrap_or(json!({}));
        *self.out = json!({"type": "object", "additionalProperties": item});
        value
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Failed> {
        let mut fields = Fields {
            schemas: self.schemas,
            names: names.iter(),
            name: "",
            schemas_of: Map::new(),
        };
        let value = visitor.visit_map(&mut fields);
        let properties = fields.schemas_of;
        let needed = |schema: &Value| schema.get("nullable").is_none() && *schema != json!({});
        let required: Vec<&String> = properties
            .iter()
            .filter(|(_, s)| needed(s))
            .map(|(name, _)| name)
            .collect();
        let schema = json!({"type": "object", "required": required, "properties": properties});
        self.schemas.insert(name.to_owned(), schema);
        *self.out = json!({"$ref": format!("#/components/schemas/{name}")});
        value
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Failed> {
        *self.out = json!({"type": "string", "enum": variants});
        visitor.visit_enum(variants.first().copied().unwrap_or_default().into_deserializer())
    }
}

struct Items<'a> {
    schemas: &'a mut Schemas,
    item: &'a mut Value,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Failed;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> std::result::Result<Option<T::Value>, Failed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Tracer::again(self.schemas, self.item)).map(Some)
    }
}

/// All fields of a struct, or one entry of a map.
struct Fields<'a, 'n> {
    schemas: &'a mut Schemas,
    names: std::slice::Iter<'n, &'static str>,
    name: &'static str,
    schemas_of: Map<String, Value>,
}

impl<'de> de::MapAccess<'de> for &mut Fields<'_, '_> {
    type Error = Failed;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> std::result::Result<Option<K::Value>, Failed> {
        let Some(name) = self.names.next() else { return Ok(None) };
        self.name = name;
        let key: StrDeserializer<'_, Failed> = self.name.into_deserializer();
        // Sets are maps to empty maps, whose keys are nothing at all.
        match seed.deserialize(key) {
            Err(_) if self.name.is_empty() => Ok(None),
            key => key.map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> std::result::Result<V::Value, Failed> {
        let mut schema = json!({});
        let value = seed.deserialize(Tracer::again(self.schemas, &mut schema));
        self.schemas_of.insert(self.name.to_owned(), schema);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_to_their_end() {
        let mut schemas = Schemas::new();
        let schema = of::<engine::models::ContainerCreateBody>(&mut schemas);
        assert_eq!(schema["$ref"], "#/components/schemas/ContainerCreateBody");
        let body = &schemas["ContainerCreateBody"]["properties"];
        assert_eq!(body["Tty"], json!({"type": "boolean", "nullable": true}));
        assert!(body["Labels"]["additionalProperties"].is_object(), "{body}");
        assert!(body["NetworkingConfig"].is_object() && schemas["HostConfig"]["properties"]["Memory"].is_object());
    }

    #[test]
    fn every_route_is_described() {
        let document = describe();
        for route in ROUTES {
            let path = route.path.replacen("{}", "{name}", 1).replacen("{*}", "{name}", 1);
            let operation = &document["paths"][path][route.method.to_ascii_lowercase()];
            assert!(
                operation["responses"].as_object().is_some_and(|r| r.len() > 1),
                "{} {}",
                route.method,
                route.path
            );
        }
        let text = document.to_string();
        for name in text
            .split("#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
