//! Go's text templates, as far as Docker's users write them: fields, pipelines, `if`, `range`, `with`, variables, and
//! Docker's functions (`json`, `join`, `split`, `upper`, `lower`, `title`, `pad`, `truncate`, `println`, `table`).

mod evaluate;
mod parse;

use errdefs::{Error, Result};
use serde_json::Value;

/// A parsed template.
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let nodes = parse::parse(&text)
            .map_err(|why| Error::invalid(format!("template parsing error: template: :1: {why}")))?;
        Ok(Template { nodes })
    }

    /// Fills it in.
    pub fn fill(&self, data: &Value) -> Result<String> {
        evaluate::evaluate(&self.nodes, data)
            .map_err(|why| Error::invalid(format!("template: :1: executing \"\": {why}")))
    }

    /// The fields it names, for a table's titles.
    pub fn titles(&self) -> String {
        evaluate::titles(&self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(text: &str) -> String {
        let data = json!({"Id": "abc", "State": {"Status": "running", "Pid": 12}, "Names": ["/a", "/b"], "Empty": [],
            "Labels": {"x.y": "1", "k": "<v>"}, "N": null, "Yes": true});
        match Template::parse(text).and_then(|t| t.fill(&data)) {
            Ok(text) => text,
            Err(error) => format!("ERROR {error}"),
        }
    }

    #[test]
    fn rows_have_labels_by_name() {
        let row = json!({"Labels": "a=b,c=d=e"});
        let fill = |text: &str| Template::parse(text).unwrap().fill(&row).unwrap();
        assert_eq!(fill("{{.Label \"a\"}} {{.Label \"c\"}}|{{.Label \"x\"}}"), "b d=e|");
    }

    #[test]
    fn templates_are_gos() {
        let table = [
            ("{{.Id}}", "abc"),
            ("{{ .State.Status }}-{{.State.Pid}}", "running-12"),
            ("{{json .Names}}", "[\"/a\",\"/b\"]"),
            ("{{json .Labels.k}}", "\"\\u003cv\\u003e\""),
            ("{{range .Names}}[{{.}}]{{end}}", "[/a][/b]"),
            ("{{range $i, $n := .Names}}{{$i}}={{$n}};{{end}}", "0=/a;1=/b;"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .Yes}}y{{else}}n{{end}}{{if not .Yes}}y{{else}}n{{end}}", "yn"),
            ("{{if eq .Id \"abc\" }}same{{end}}", "same"),
            (
                "{{if and .Yes (gt .State.Pid 10)}}big{{else if .Yes}}small{{end}}",
                "big",
            ),
            ("{{index .Labels \"x.y\"}}{{index .Names 1}}", "1/b"),
            ("{{with .State}}{{.Pid}}{{end}}", "12"),
            ("{{join .Names \",\"}} {{upper .Id}} {{len .Names}}", "/a,/b ABC 2"),
            ("{{.Names | len | printf \"%03d\"}}", "002"),
            ("{{printf \"%q %v %5s|\" .Id .State.Pid \"x\"}}", "\"abc\" 12     x|"),
            ("{{.Id | upper | printf \"%s!\"}}", "ABC!"),
            ("a {{- .Id -}} b", "aabcb"),
            ("{{/* nothing */}}{{$x := .Id}}{{$x}}", "abc"),
            ("{{.Names}}", "[/a /b]"),
            ("{{.Labels}}", "map[k:<v> x.y:1]"),
            ("{{range $k, $v := .Labels}}{{$k}}:{{$v}} {{end}}", "k:<v> x.y:1 "),
            ("{{split \"a,b\" \",\"}}", "[a b]"),
            ("{{with $x := .Id}}{{$x}}{{end}}", "abc"),
            ("{{if $x := .Id}}{{$x}}{{end}}", "abc"),
            ("{{if and .N .N.Deeper}}y{{else}}n{{end}}{{or .N .Id}}", "nabc"),
            ("{{.Labels.nosuch}}", "<no value>"),
            ("{{.Label \"a\"}}", "ERROR"),
            ("{{$x}}", "ERROR"),
            ("{{.State.Nosuch}}", "ERROR"),
            ("{{.Id", "ERROR"),
            ("{{nosuch .Id}}", "ERROR"),
            ("{{if .Id}}x", "ERROR"),
        ];
        for (text, expected) in table {
            let got = fill(text);
            match expected {
                "ERROR" => assert!(got.starts_with("ERROR"), "{text}: {got}"),
                expected => assert_eq!(got, expected, "{text}"),
            }
        }
    }
}
