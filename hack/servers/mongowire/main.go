// Command mongowire serves the MongoDB wire protocol from a folder of SQLite files.
//
// It embeds FerretDB, as its package is meant to be used; the project's own command panics when it
// is built from the module, since a generated version file is missing there (docs/measured.md#ferretdb).
// It is for tests and the demo only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// gcPercent is how much the heap may grow over what is alive before garbage is collected.
//
// What is alive is small, so that Go's 100 collects after every few inserts, which is a quarter of what they cost.
// An environment variable GOGC wins. SQLite's own settings, durability with them, stay as FerretDB has them.
const gcPercent = 400

// lateHandler formats what a logger carries when it writes a record, and not before.
//
// FerretDB makes two loggers a statement, each with all of its documents, to say it at DEBUG. slog's own handlers
// format that at once, also where DEBUG is off: a quarter of what an insert cost.
type lateHandler struct {
	to    slog.Handler
	attrs []slog.Attr
}

func (h lateHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Enabled(ctx, level)
}

func (h lateHandler) Handle(ctx context.Context, record slog.Record) error {
	return h.to.WithAttrs(h.attrs).Handle(ctx, record)
}

func (h lateHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lateHandler{to: h.to, attrs: slices.Concat(h.attrs, attrs)}
}

func (h lateHandler) WithGroup(name string) slog.Handler {
	return lateHandler{to: h.to.WithAttrs(h.attrs).WithGroup(name)}
}

func main() {
	addr := flag.String("listen", "127.0.0.1:27017", "address to listen on")
	dir := flag.String("dir", ".", "folder of the data")
	version := flag.Bool("version", false, "print the version of FerretDB and end")
	flag.Parse()

	if *version {
		fmt.Println("mongowire", ferretVersion())
		return
	}

	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}

	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: *addr},
		Handler:   "sqlite",
		SQLiteURL: "file:" + *dir + "/",
		Logger:    slog.New(lateHandler{to: slog.NewTextHandler(os.Stderr, nil)}),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "mongowire:", err)
		os.Exit(1)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := server.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "mongowire:", err)
		os.Exit(1)
	}
}

// ferretVersion is that of the embedded module, as go.mod pins it.
func ferretVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, module := range info.Deps {
		if module.Path == "github.com/FerretDB/FerretDB" {
			return module.Version
		}
	}
	return "unknown"
}
