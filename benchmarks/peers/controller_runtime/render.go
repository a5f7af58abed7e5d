package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The documents, byte for byte as the operator writes them: benchmarks/checker.py compares. Names and values of benchmarks are
// plain ASCII, and their gateways name neither stores nor web search, so nothing else is done here.

type object = map[string]any

const defaultLog = `{"level":"INFO","retention":30,"storage":{"path":"logs","sinks":["file","mongodb"]}}`

// document is one file, the models in it and the name of its ConfigMap.
type document struct {
	configMap string
	stem      string
	shard     any
	text      string
	sources   map[string]string
}

func canonical(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func modelName(model *VirtualModel) string {
	if model.Spec.ModelName != "" {
		return model.Spec.ModelName
	}
	return model.Name
}

func reference(ref *SecretRef) any {
	if ref == nil {
		return nil
	}
	return ref.Name + "." + ref.Key
}

func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func entry(model *VirtualModel) object {
	spec := &model.Spec
	made := object{
		"use": spec.Use, "current": spec.Current, "base_url": orNil(spec.BaseURL), "proxy_key_ref": reference(&spec.ProxyKey),
	}
	for i := range spec.Backends {
		backend := &spec.Backends[i]
		address, parameters := backend.BaseURL, backend.Parameters
		if address == "" {
			address = spec.BaseURL
		}
		if len(parameters) == 0 {
			parameters = json.RawMessage("{}")
		}
		made[backend.Name] = object{
			"model": backend.Model, "base_url": orNil(address), "api_key_ref": reference(backend.APIKey), "parameters": parameters,
		}
	}
	return made
}

func models(placed []*VirtualModel) string {
	if len(placed) == 0 {
		return `{"virtual_models":{}}`
	}
	slices.SortFunc(placed, func(a, b *VirtualModel) int { return strings.Compare(modelName(a), modelName(b)) })
	lines := make([]string, 0, len(placed))
	for _, model := range placed {
		lines = append(lines, canonical(modelName(model))+":"+canonical(entry(model)))
	}
	return "{\"virtual_models\":{\n" + strings.Join(lines, ",\n") + "\n}}"
}

func render(gateway *GatewayConfig, all []*VirtualModel) []document {
	shards := max(1, gateway.Spec.Delivery.Shards)
	placed := make([][]*VirtualModel, shards)
	for _, model := range all {
		number := shardOf(modelName(model), shards)
		placed[number] = append(placed[number], model)
	}
	app := object{"host": "0.0.0.0", "port": 8000, "debug": false}
	for key, value := range gateway.Spec.App {
		app[key] = value
	}
	inConfig := []*VirtualModel{}
	if shards == 1 {
		inConfig = placed[0]
	}
	text := fmt.Sprintf(
		"{\"ai-gateway\":%s,\n\"app\":%s,\n\"log\":{\"operation\":%s,\"system\":%s},\n"+
			"\"storage\":{\"mongodb\":null,\"qdrant\":null,\"redis\":null},\n\"web_search\":null}\n",
		models(inConfig), canonical(app), defaultLog, defaultLog,
	)
	made := []document{{gateway.Name + "-config", "config", nil, text, sources(inConfig)}}
	if shards > 1 {
		for number, own := range placed {
			stem := fmt.Sprintf("models-%02d", number)
			made = append(made, document{gateway.Name + "-" + stem, stem, number, "{\"ai-gateway\":" + models(own) + "}\n", sources(own)})
		}
	}
	return made
}

func shardOf(name string, shards int) int {
	digest := sha256.Sum256([]byte(name))
	return int(binary.BigEndian.Uint64(digest[:8]) % uint64(shards))
}

func sources(placed []*VirtualModel) map[string]string {
	made := make(map[string]string, len(placed))
	for _, model := range placed {
		made[modelName(model)] = model.Name + "/" + string(model.UID)[:8]
	}
	return made
}

func (one *document) data(gateway *GatewayConfig, revision int64) map[string]string {
	digest := sha256.Sum256([]byte(one.text))
	manifest := object{
		"schema": "1.0", "gateway": gateway.Namespace + "/" + gateway.Name, "lineage": string(gateway.UID),
		"shards": max(1, gateway.Spec.Delivery.Shards), "shard": one.shard, "revision": revision,
		"sha256": hex.EncodeToString(digest[:]), "sources": one.sources,
	}
	return map[string]string{one.stem + ".yml": one.text, one.stem + ".manifest.json": canonical(manifest) + "\n"}
}
