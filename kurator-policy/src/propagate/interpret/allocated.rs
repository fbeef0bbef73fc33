//! What the API server of the hub chose for a Service by itself, which another cluster has to choose anew.

use serde_json::Value;

/// Takes out of the `spec` of a Service the node ports and IP families that nobody asked for.
///
/// What somebody asked for is told by `managedFields`: an API server writes down who set which field before it allocates
/// the ones that are missing, so that a node port which it chose itself belongs to nobody
/// (`ServiceSpec.ports[].nodePort`; Kubernetes, "Server-Side Apply: field management"). An object without `managedFields`
/// is a manifest that somebody wrote: all of it is asked for.
///
/// `owned` are the `fieldsV1` of the managers of the object itself, without those of its status.
pub(crate) fn strip_allocated<'a>(owned: impl Iterator<Item = &'a Value>, spec: &mut Value) {
    let owned: Vec<&Value> = owned.filter_map(|fields| fields.get("f:spec")).collect();
    let Value::Object(spec) = spec else { return };
    if owned.is_empty() {
        return;
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        let name = format!("f:{field}");
        if !owned.iter().any(|spec| spec.get(&name).is_some()) {
            spec.remove(field);
        }
    }
    let asked = |number: &Value, protocol: &str| {
        let ports = owned.iter().filter_map(|spec| spec.get("f:ports")?.as_object());
        ports.flatten().any(|(key, fields)| {
            let key = key
                .strip_prefix("k:")
                .and_then(|key| serde_json::from_str::<Value>(key).ok());
            let is_it = key.is_some_and(|key| {
                let of = key.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
                key.get("port") == Some(number) && of == protocol
            });
            is_it && fields.get("f:nodePort").is_some()
        })
    };
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        let number = port.get("port").unwrap_or(&Value::Null);
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        if !asked(number, protocol) {
            port.remove("nodePort");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Value {
        json!({
            "type": "NodePort", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [
                { "port": 53, "nodePort": 30_053 },
                { "port": 53, "protocol": "UDP", "nodePort": 30_054 },
                { "port": 80, "protocol": "TCP", "nodePort": 30_080 },
            ],
        })
    }

    #[test]
    fn what_nobody_asked_for_is_left_behind() {
        let owned = [
            json!({ "f:metadata": {}, "f:spec": { "f:type": {}, "f:ports": {
                ".": {},
                "k:{\"port\":53,\"protocol\":\"UDP\"}": { ".": {}, "f:port": {}, "f:nodePort": {} },
                "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {} },
            } } }),
            json!({ "f:spec": { "f:ipFamilyPolicy": {} } }),
        ];
        let mut spec = service();
        strip_allocated(owned.iter(), &mut spec);
        assert_eq!(
            spec,
            json!({
                "type": "NodePort", "ipFamilyPolicy": "SingleStack",
                "ports": [
                    { "port": 53 },
                    { "port": 53, "protocol": "UDP", "nodePort": 30_054 },
                    { "port": 80, "protocol": "TCP" },
                ],
            })
        );
    }

    #[test]
    fn a_manifest_that_somebody_wrote_is_meant_as_it_is() {
        let mut spec = service();
        strip_allocated([].iter(), &mut spec);
        assert_eq!(spec, service());
        strip_allocated([json!({ "f:metadata": {} })].iter(), &mut spec);
        assert_eq!(spec, service());
    }
}
