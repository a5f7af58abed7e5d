// A gateway pod without the Python library: follows the mounted documents, answers on the status port what it runs, and lists
// the models it serves. Standard library only. What a reader must do is in reader.go; the shapes are the JSON Schemas of
// docs/schemas.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const pollEvery = 100 * time.Millisecond // two readlinks; only a link that moved is read further

func main() {
	log.SetFlags(0)
	config := setting("AIGATEWAY_CONFIG_DIR", "/etc/aigateway/config")
	credentials := setting("AIGATEWAY_CREDENTIALS_DIR", "/etc/aigateway/credentials")
	var current atomic.Pointer[State] // never changed once stored: requests that run keep theirs
	var fault atomic.Pointer[string]
	go follow(config, credentials, &current, &fault)

	status := http.NewServeMux()
	status.HandleFunc("GET /aigateway/v1/config", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, statusAnswer(current.Load(), fault.Load()))
	})
	go serve(net.JoinHostPort(setting("AIGATEWAY_STATUS_HOST", ""), setting("STATUS_PORT", "8081")), status)

	app := http.NewServeMux()
	app.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		code := http.StatusOK
		if current.Load() == nil {
			code = http.StatusServiceUnavailable // no configuration yet
		}
		answer(w, code, map[string]bool{"ready": code == http.StatusOK})
	})
	app.HandleFunc("GET /models", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, models(current.Load())) })
	serve(net.JoinHostPort(setting("LISTEN_HOST", ""), setting("PORT", "8000")), app)
}

// follow reads again whenever the kubelet has swapped one of the two folders.
func follow(config, credentials string, current *atomic.Pointer[State], fault *atomic.Pointer[string]) {
	seen := "never"
	for ; ; time.Sleep(pollEvery) {
		link, other := target(config), target(credentials)
		if now := link + " " + other; now != seen {
			state, text, err := Read(config, credentials, current.Load())
			if state != current.Load() {
				current.Store(state)
				log.Printf("lineage %s, documents %v, credentials %v", state.Lineage, state.revisions(), state.credentialsRevisions())
			}
			if text != "" && (fault.Load() == nil || *fault.Load() != text) {
				log.Print("kept what was in force: ", text)
			}
			fault.Store(&text)
			if seen = now; err != nil {
				seen = "try again"
			}
		}
	}
}

// statusAnswer is docs/schemas/status.schema.json: what this process runs, never what it has only seen.
func statusAnswer(state *State, fault *string) map[string]any {
	out := map[string]any{"lineage": nil, "documents": map[string]any{}, "credentials": map[string]int{},
		"credentialsRevision": nil, "loadedAt": nil, "restartRequired": []string{}, "error": nil}
	if fault != nil && *fault != "" {
		out["error"] = *fault
	}
	if state == nil {
		return out
	}
	documents := map[string]any{}
	for file, document := range state.Documents {
		documents[file] = map[string]any{"revision": document.Manifest.Revision, "digest": document.Manifest.SHA256}
	}
	highest := 0
	for _, revision := range state.credentialsRevisions() {
		highest = max(highest, revision)
	}
	out["lineage"], out["documents"], out["loadedAt"] = state.Lineage, documents, state.LoadedAt.UTC().Format(time.RFC3339Nano)
	if out["credentials"] = state.credentialsRevisions(); len(state.Credentials) > 0 {
		out["credentialsRevision"] = highest
	}
	return out
}

// models is what a gateway would serve: each model that is switched on, with its live backend. Keys are only counted.
func models(state *State) map[string]any {
	out := map[string]any{}
	if state == nil {
		return out
	}
	for _, document := range state.Documents {
		for name, entry := range document.Models {
			if entry.Use {
				_, known := state.secret(entry.Live.APIKeyRef)
				out[name] = map[string]any{"current": entry.Current, "model": entry.Live.Model, "keyed": known}
			}
		}
	}
	return out
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the reader has gone: nobody is left to be told
}

func serve(address string, handler http.Handler) {
	server := &http.Server{Addr: address, Handler: handler, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	log.Fatal(fmt.Errorf("cannot serve %s: %w", address, server.ListenAndServe()))
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
