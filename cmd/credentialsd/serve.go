package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/store"
)

type serveCommand struct{}

// Run serves until the context is over.
func (serveCommand) Run(ctx context.Context, p process) error {
	settings, err := config.Load(p.getenv)
	if err != nil {
		return err
	}
	log := newLogger(p.stderr, settings.LogLevel)
	s, err := openStore(ctx, settings, log, p.now)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	if err := checkMigrated(ctx, s); err != nil {
		return err
	}
	listeners, err := listen(ctx, settings.ListenAddr, settings.OpsAddr)
	if err != nil {
		return err
	}
	return serve(ctx, p.wiring(settings, s, log), listeners, func() error { return nil })
}

func newLogger(to io.Writer, level string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: least}))
}

func closeQuietly(c io.Closer) { _ = c.Close() } // at the end of a process there is nobody to tell

func openStore(ctx context.Context, settings config.Config, log *slog.Logger, now func() time.Time) (*store.Store, error) {
	sealer, err := secret.NewSealer(settings.SealingKey)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{
		URL: settings.DatabaseURL.Reveal(), MaxConnections: settings.DatabaseMaxConnections, Sealer: sealer, Log: log, Now: now,
	})
}

// listeners are the two open ports: of the API, and of probes and metrics.
type listeners struct{ api, ops net.Listener }

func listen(ctx context.Context, api, ops string) (listeners, error) {
	var open net.ListenConfig
	a, err := open.Listen(ctx, "tcp", api)
	if err != nil {
		return listeners{}, fmt.Errorf("listen on %s: %w", api, err)
	}
	o, err := open.Listen(ctx, "tcp", ops)
	if err != nil {
		return listeners{}, errors.Join(fmt.Errorf("listen on %s: %w", ops, err), a.Close())
	}
	return listeners{api: a, ops: o}, nil
}

// Limits of the HTTP servers. Writing may take as long as waiting for the throttle, for a lane and hashing may.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 3 * time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

func httpServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// serve runs everything until the context is over: then readiness goes first, requests under way end, and the background
// work and the database come last.
func serve(ctx context.Context, w wiring, l listeners, ready func() error) error {
	log := w.log
	a, err := wire(ctx, w)
	if err != nil {
		return errors.Join(err, l.api.Close(), l.ops.Close())
	}
	if a.breached != nil {
		defer closeQuietly(a.breached)
	}
	api, ops := httpServer(a.api, log), httpServer(a.ops, log)
	failed := make(chan error, 2)
	go func() { failed <- api.Serve(l.api) }()
	go func() { failed <- ops.Serve(l.ops) }()
	stopBackground := a.startBackground(context.WithoutCancel(ctx))
	defer stopBackground()
	log.InfoContext(ctx, "serving", "api", l.api.Addr().String(), "ops", l.ops.Addr().String(), "version", version())
	if err := ready(); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.InfoContext(ctx, "shutting down")
	a.health.StopBeingReady()
	a.others.hub.Close() // polls that wait for events end at once
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.settings.ShutdownTimeout)
	defer cancel()
	return errors.Join(api.Shutdown(end), ops.Shutdown(end))
}
