// What every reader of the documents must do, in the order in which it is done:
//
//  1. resolve ..data once and read every file through it; if it moved meanwhile, read again;
//  2. take a document only if its manifest has a schema major that is known, its bytes have the manifest's SHA-256, and it
//     parses; unknown keys are ignored;
//  3. compare revisions only within one lineage; another lineage takes over only when all of it is there;
//  4. wait until every credentials file that a document names is there, or is listed as missing;
//  5. on any fault keep, per document, what was good last.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

const schemaMajor = "1"

// Manifest is docs/schemas/manifest.schema.json.
type Manifest struct {
	Schema   string `json:"schema"`
	Lineage  string `json:"lineage"`
	Shards   int    `json:"shards"`
	Revision int    `json:"revision"`
	SHA256   string `json:"sha256"`
}

// CredentialsManifest is docs/schemas/credentials-manifest.schema.json.
type CredentialsManifest struct {
	Schema   string   `json:"schema"`
	Lineage  string   `json:"lineage"`
	Revision int      `json:"credentialsRevision"`
	Keys     []string `json:"keys"`
	Missing  []string `json:"missing"`
}

// Document is one verified file: config.yml or models-NN.yml.
type Document struct {
	Manifest Manifest
	Models   map[string]Entry
	refs     []string // credentials files that it names
}

// Entry is one virtual model, with its live backend picked out.
type Entry struct {
	Use     bool
	Current string
	Live    Backend
}

// Backend is one upstream of a virtual model.
type Backend struct {
	Model     string  `json:"model"`
	BaseURL   string  `json:"base_url"`
	APIKeyRef *string `json:"api_key_ref"`
}

// Credentials is one credentials manifest and the values of its keys.
type Credentials struct {
	Manifest CredentialsManifest
	values   map[string]string
}

// State is what is in force. Never changed once made.
type State struct {
	Lineage     string
	Documents   map[string]Document
	Credentials map[string]Credentials
	LoadedAt    time.Time
}

// Read returns what is in force after looking at both folders (last itself if nothing changed), and why the newest is not.
// An error means that a folder could not be read: try again. A fault is mended by the next swap only.
func Read(configDir, credentialsDir string, last *State) (*State, string, error) {
	files, err := readFolder(configDir)
	if err != nil {
		return last, err.Error(), err
	}
	values, err := readFolder(credentialsDir)
	if err != nil {
		return last, err.Error(), err
	}
	found, faults := verifyAll(files)
	config, ok := found["config.yml"]
	if !ok && last == nil {
		return last, text(append(faults, "there is no valid config.yml yet")), nil
	}
	lineage := config.Manifest.Lineage
	if !ok {
		lineage = last.Lineage
	}
	state, waiting := next(lineage, found, values, last)
	return state, text(append(faults, waiting...)), nil
}

// next puts together what comes into force of one lineage.
func next(lineage string, found map[string]Document, values map[string][]byte, last *State) (*State, []string) {
	fresh := &State{Lineage: lineage, Documents: map[string]Document{}, Credentials: map[string]Credentials{}, LoadedAt: time.Now()}
	same := last != nil && last.Lineage == lineage
	changed := !same
	if same {
		for file, document := range last.Documents {
			fresh.Documents[file] = document
		}
		for file, credentials := range last.Credentials {
			fresh.Credentials[file] = credentials
		}
	}
	faults := fresh.loadCredentials(values, &changed)
	for _, file := range sorted(found) {
		document := found[file]
		before, known := fresh.Documents[file]
		switch missing := fresh.lacks(document); {
		case document.Manifest.Lineage != lineage:
			faults = append(faults, file+": is of another lineage")
		case known && document.Manifest.Revision < before.Manifest.Revision:
			faults = append(faults, file+": is older than what is in force")
		case missing != "":
			faults = append(faults, fmt.Sprintf("%s: waits for credentials file %s", file, missing))
		case !known || document.Manifest.SHA256 != before.Manifest.SHA256 || document.Manifest.Revision != before.Manifest.Revision:
			fresh.Documents[file], changed = document, true
		}
	}
	for _, file := range sorted(fresh.Documents) {
		if _, there := found[file]; !there {
			faults = append(faults, file+": is not there (or not valid) any more; the last good one serves on")
		}
	}
	if !same {
		if absent := fresh.incomplete(); absent != "" { // half a set of a new lineage never replaces a whole one
			return last, append(faults, "waits for "+absent+" of lineage "+lineage)
		}
	}
	if !changed {
		return last, faults
	}
	return fresh, faults
}

// loadCredentials takes over each credentials manifest whose keys are all there.
func (s *State) loadCredentials(values map[string][]byte, changed *bool) []string {
	var faults []string
	for _, file := range sorted(values) {
		if !strings.HasPrefix(file, "_manifest") {
			continue
		}
		var manifest CredentialsManifest
		if err := json.Unmarshal(values[file], &manifest); err != nil || major(manifest.Schema) != schemaMajor {
			faults = append(faults, file+": UnsupportedSchema or no JSON")
			continue
		}
		before, known := s.Credentials[file]
		if manifest.Lineage != s.Lineage || known && manifest.Revision < before.Manifest.Revision {
			continue
		}
		loaded := Credentials{manifest, map[string]string{}}
		for _, key := range manifest.Keys {
			if value, ok := values[key]; ok {
				loaded.values[key] = string(value)
			}
		}
		if len(loaded.values) < len(manifest.Keys) {
			faults = append(faults, file+": names files that are not there")
			continue
		}
		if !known || manifest.Revision != before.Manifest.Revision {
			s.Credentials[file], *changed = loaded, true
		}
	}
	return faults
}

// lacks returns a credentials file that a document names and that is neither there nor known to be missing, or "".
func (s *State) lacks(document Document) string {
	for _, ref := range document.refs {
		settled := false
		for _, credentials := range s.Credentials {
			_, there := credentials.values[ref]
			settled = settled || there || contains(credentials.Manifest.Missing, ref)
		}
		if !settled {
			return ref
		}
	}
	return ""
}

// incomplete returns a document that a whole set needs and that is not there, or "".
func (s *State) incomplete() string {
	config, ok := s.Documents["config.yml"]
	if !ok {
		return "config.yml"
	}
	for shard := 0; config.Manifest.Shards > 1 && shard < config.Manifest.Shards; shard++ {
		file := fmt.Sprintf("models-%02d.yml", shard)
		if _, ok := s.Documents[file]; !ok {
			return file
		}
	}
	return ""
}

// secret returns the value behind a reference; false where there is none.
func (s *State) secret(ref *string) (string, bool) {
	if ref != nil {
		for _, credentials := range s.Credentials {
			if value, ok := credentials.values[*ref]; ok {
				return value, true
			}
		}
	}
	return "", false
}

func (s *State) revisions() map[string]int {
	out := map[string]int{}
	for file, document := range s.Documents {
		out[file] = document.Manifest.Revision
	}
	return out
}

func (s *State) credentialsRevisions() map[string]int {
	out := map[string]int{}
	for file, credentials := range s.Credentials {
		out[file] = credentials.Manifest.Revision
	}
	return out
}

// verifyAll returns every document that agrees with its manifest, by file name, and what is wrong with the others.
func verifyAll(files map[string][]byte) (map[string]Document, []string) {
	found, faults := map[string]Document{}, []string(nil)
	for _, name := range sorted(files) {
		stem, isManifest := strings.CutSuffix(name, ".manifest.json")
		if !isManifest {
			continue
		}
		document, err := verify(files[name], files[stem+".yml"])
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s.yml: %v", stem, err))
			continue
		}
		found[stem+".yml"] = document
	}
	return found, faults
}

func verify(manifest, content []byte) (Document, error) {
	var document Document
	if err := json.Unmarshal(manifest, &document.Manifest); err != nil {
		return document, fmt.Errorf("its manifest is no JSON: %w", err)
	}
	if major(document.Manifest.Schema) != schemaMajor {
		return document, fmt.Errorf("UnsupportedSchema: %q; this program reads major %s", document.Manifest.Schema, schemaMajor)
	}
	if digest := sha256.Sum256(content); hex.EncodeToString(digest[:]) != document.Manifest.SHA256 {
		return document, errors.New("its SHA-256 is not that of its manifest")
	}
	var shape struct {
		Gateway struct {
			Models map[string]map[string]json.RawMessage `json:"virtual_models"`
		} `json:"ai-gateway"`
		Storage   any `json:"storage"`
		WebSearch struct {
			APIKeyRef *string `json:"api_key_ref"`
		} `json:"web_search"`
	}
	if err := json.Unmarshal(content, &shape); err != nil {
		return document, err
	}
	document.refs = named(refs(shape.Storage), shape.WebSearch.APIKeyRef)
	document.Models = map[string]Entry{}
	for name, raw := range shape.Gateway.Models {
		entry, used, err := entryOf(raw)
		if err != nil {
			return document, fmt.Errorf("model %s: %w", name, err)
		}
		document.Models[name], document.refs = entry, append(document.refs, used...)
	}
	return document, nil
}

// entryOf reads one model: fixed keys, and one mapping per backend beside them. The second result is what it refers to.
func entryOf(raw map[string]json.RawMessage) (Entry, []string, error) {
	var entry Entry
	var proxyKeyRef string
	err := errors.Join(json.Unmarshal(raw["use"], &entry.Use), json.Unmarshal(raw["current"], &entry.Current),
		json.Unmarshal(raw["proxy_key_ref"], &proxyKeyRef))
	used := []string{proxyKeyRef}
	for name, value := range raw {
		if contains([]string{"use", "current", "base_url", "proxy_key_ref"}, name) {
			continue
		}
		var backend Backend
		if json.Unmarshal(value, &backend) != nil || backend.Model == "" {
			continue // a key of a later minor version
		}
		used = named(used, backend.APIKeyRef)
		if name == entry.Current {
			entry.Live = backend
		}
	}
	if err == nil && entry.Live.Model == "" {
		err = errors.New("current names no backend")
	}
	return entry, used, err
}

// refs collects the credentials files of the datastores: every *_ref below storage, where no map is open.
func refs(tree any) []string {
	var found []string
	if node, ok := tree.(map[string]any); ok {
		for key, value := range node {
			if ref, ok := value.(string); ok && strings.HasSuffix(key, "_ref") {
				found = append(found, ref)
			} else {
				found = append(found, refs(value)...)
			}
		}
	}
	return found
}

func named(refs []string, ref *string) []string {
	if ref != nil {
		refs = append(refs, *ref)
	}
	return refs
}

// readFolder reads a mounted volume through one resolved ..data, so that all files are of one swap.
func readFolder(folder string) (map[string][]byte, error) {
	for attempt := 0; attempt < 10; attempt++ {
		link := target(folder)
		files, err := readFiles(filepath.Join(folder, link))
		if target(folder) == link {
			return files, err
		}
	}
	return nil, fmt.Errorf("%s is swapped faster than it can be read", folder)
}

func readFiles(folder string) (map[string][]byte, error) {
	entries, err := os.ReadDir(folder)
	files := map[string][]byte{}
	for _, entry := range entries {
		if entry.IsDir() || strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		if files[entry.Name()], err = os.ReadFile(filepath.Join(folder, entry.Name())); err != nil {
			return nil, err
		}
	}
	return files, err
}

// target returns where ..data points; "" for a folder without it.
func target(folder string) string {
	link, _ := os.Readlink(filepath.Join(folder, "..data"))
	return link
}

func major(schema string) string { return strings.SplitN(schema, ".", 2)[0] }

func text(faults []string) string { return strings.Join(faults, "; ") }

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}

func sorted[V any](mapping map[string]V) []string {
	names := make([]string, 0, len(mapping))
	for name := range mapping {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
