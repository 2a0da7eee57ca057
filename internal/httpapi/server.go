// Package httpapi speaks HTTP: routing, binding, middleware, translation of requests and results, problem documents.
// Echo is used here and in package api, and nowhere else.
//
// It depends on package api and on the use cases (session, credential, client, audit, review, signal, bulk), and decides nothing itself.
package httpapi

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/bulk"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/review"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/throttle"
)

// Config is what a Server is made of.
type Config struct {
	PublicURL      string
	AccountURL     string // the app's account page; empty: unknown
	AllowedOrigins []string
	TrustedProxies []netip.Prefix
	RateLimit      int // requests a minute to credential endpoints, per address and per subject
	Sessions       *session.Manager
	Credentials    *credential.Manager
	Clients        *client.Registry
	Trail          *audit.Trail
	Reviewer       *review.Reviewer
	Jobs           *bulk.Jobs
	Limiter        *throttle.Limiter
	Replays        *replay.Keeper
	Mailbox        func(ctx context.Context) ([]notice.Mail, error) // of dev, once what waits is delivered; nil elsewhere
	Signals        *signal.Transmitter
	JWKS           func(context.Context) ([]byte, error)                      // the keys of access tokens and events
	Observe        func(method, route string, status int, took time.Duration) // may not be nil
	Now            func() time.Time
	Log            *slog.Logger
}

// Server answers the API.
type Server struct {
	config      Config
	log         *slog.Logger
	sessions    *session.Manager
	credentials *credential.Manager
	clients     *client.Registry
	trail       *audit.Trail
	reviewer    *review.Reviewer
	jobs        *bulk.Jobs
	replays     *replay.Keeper
	pages       *pages
	signals     *signal.Transmitter
}

var _ api.StrictServerInterface = (*Server)(nil)

// New returns the handler of the API.
func New(config Config) http.Handler {
	s := &Server{
		config: config, log: config.Log, sessions: config.Sessions, credentials: config.Credentials, clients: config.Clients, trail: config.Trail, reviewer: config.Reviewer,
		jobs: config.Jobs, replays: config.Replays, pages: newPages(), signals: config.Signals,
	}
	e := echo.New()
	e.Binder = binder{}
	e.HTTPErrorHandler = s.errorHandler
	e.IPExtractor = ipExtractor(config.TrustedProxies)
	e.Use(s.identify, s.observe, s.recovering, deadline, securityHeaders(config.PublicURL), acceptPatch, s.cors(), s.limitBody)
	gates := map[string][]echo.MiddlewareFunc{}
	for _, rule := range access.Table() {
		gates[rule.Operation] = []echo.MiddlewareFunc{s.gate(rule)}
		if rule.Repeatable {
			gates[rule.Operation] = append(gates[rule.Operation], s.replaying)
		}
	}
	gates["issueToken"] = append(gates["issueToken"], proveClient)
	api.RegisterHandlersWithOptions(&routes{e: e, log: s.log}, api.NewStrictHandler(s, nil), api.RegisterHandlersOptions{OperationMiddlewares: gates})
	return e
}

// routes registers nothing that has no row in the authorization table (AZ-01): a forgotten operation is no operation.
type routes struct {
	e   *echo.Echo
	log *slog.Logger
}

func (r *routes) add(method, path string, h echo.HandlerFunc, gates []echo.MiddlewareFunc) *echo.Route {
	if len(gates) == 0 {
		r.log.Error("an operation without a row in the authorization table is not served", "method", method, "path", path)
		return nil
	}
	return r.e.Add(method, path, h, gates...)
}

func (r *routes) CONNECT(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodConnect, path, h, m)
}

func (r *routes) DELETE(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodDelete, path, h, m)
}

func (r *routes) GET(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodGet, path, h, m)
}

func (r *routes) HEAD(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodHead, path, h, m)
}

func (r *routes) OPTIONS(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodOptions, path, h, m)
}

func (r *routes) PATCH(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodPatch, path, h, m)
}

func (r *routes) POST(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodPost, path, h, m)
}

func (r *routes) PUT(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodPut, path, h, m)
}

func (r *routes) TRACE(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.add(http.MethodTrace, path, h, m)
}

// ipExtractor believes X-Forwarded-For only from configured proxies; Echo alone believes anybody (THR-09).
func ipExtractor(proxies []netip.Prefix) echo.IPExtractor {
	if len(proxies) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, proxy := range proxies {
		options = append(options, echo.TrustIPRange(ipNet(proxy)))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

// cors allows exactly the configured origins, without credentials: tokens travel in a header.
func (s *Server) cors() echo.MiddlewareFunc {
	allowed := map[string]bool{}
	for _, origin := range s.config.AllowedOrigins {
		allowed[origin] = true
	}
	return middleware.CORSWithConfig(middleware.CORSConfig{
		AllowOriginFunc: func(origin string) (bool, error) { return allowed[origin], nil },
		AllowHeaders:    []string{"Authorization", "Content-Type", "If-Match", "Idempotency-Key", "X-Request-Id", "traceparent"},
		ExposeHeaders:   []string{"ETag", "Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id", "WWW-Authenticate"},
		MaxAge:          int((2 * time.Hour).Seconds()),
	})
}

type contextKey string

const (
	originKey  contextKey = "origin"
	actorKey   contextKey = "actor"
	acceptKey  contextKey = "accept"
	callersKey contextKey = "callers" // the context that ends when the caller hangs up, and at no deadline
)

func originOf(ctx context.Context) access.Origin {
	origin, _ := ctx.Value(originKey).(access.Origin)
	return origin
}

func actorOf(ctx context.Context) access.Actor {
	actor, _ := ctx.Value(actorKey).(access.Actor)
	return actor
}

// traceID returns the trace id of a W3C traceparent header, or "".
func traceID(header string) string {
	parts := strings.Split(header, "-")
	if len(parts) != 4 || len(parts[1]) != 32 || parts[1] == strings.Repeat("0", 32) {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return parts[1]
}
