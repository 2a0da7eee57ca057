package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9._-]{8,128}$`)

// maxUserAgent bounds what is kept of a User-Agent header, in bytes.
const maxUserAgent = 256

// identify gives every request an id and notes where it came from.
func (s *Server) identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		id := request.Header.Get("X-Request-Id")
		if !requestIDForm.MatchString(id) {
			id = uuid.Must(uuid.NewV7()).String()
		}
		agent := keptUserAgent(request.UserAgent())
		c.Response().Header().Set("X-Request-Id", id)
		origin := access.Origin{RequestID: id, IP: c.RealIP(), UserAgent: agent}
		ctx := context.WithValue(request.Context(), acceptKey, request.Header.Get("Accept"))
		c.SetRequest(request.WithContext(context.WithValue(ctx, originKey, origin)))
		return next(c)
	}
}

// keptUserAgent is what is kept of a user agent.
func keptUserAgent(given string) string {
	agent := strings.ToValidUTF8(given, "?")
	if len(agent) > maxUserAgent {
		agent = strings.ToValidUTF8(agent[:maxUserAgent], "")
	}
	return agent
}

// observe writes one line for each request, without the query, which may hold anything, and measures it.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		begin := s.config.Now()
		if err := next(c); err != nil {
			c.Error(err) // writes the answer, so that its status is known below
		}
		request, took := c.Request(), s.config.Now().Sub(begin)
		status := c.Response().Status
		s.config.Observe(request.Method, c.Path(), status, took)
		actor, _ := c.Get(actorName).(access.Actor)
		s.log.InfoContext(request.Context(), "request",
			"request_id", originOf(request.Context()).RequestID, "method", request.Method, "path", loggedPath(c), "route", c.Path(),
			"status", status, "took_ms", took.Milliseconds(), "ip", originOf(request.Context()).IP,
			"user_id", string(actor.User.ID), "client_id", actor.ClientID, "trace_id", traceID(request.Header.Get("traceparent")))
		return nil
	}
}

// loggedPath keeps names out of the log where they are part of the path (LOG-04): ids tell enough.
func loggedPath(c echo.Context) string {
	if c.Param("username") != "" {
		return c.Path()
	}
	return c.Request().URL.Path
}

// recovering answers a panic with 500 and keeps the process alive; the stack goes to the log alone.
func (s *Server) recovering(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if panicked := recover(); panicked != nil {
				err = fmt.Errorf("panic: %T", panicked) // its value may hold anything
				s.log.ErrorContext(c.Request().Context(), "a handler panicked", "request_id", originOf(c.Request().Context()).RequestID, "stack", string(debug.Stack()))
			}
		}()
		return next(c)
	}
}

// requestTime bounds a request: it may wait for the throttle, for two lanes and for a connection to the database.
const requestTime = 30 * time.Second

func deadline(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		callers := c.Request().Context()
		ctx, cancel := context.WithTimeout(context.WithValue(callers, callersKey, callers), requestTime)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}

// unhurried returns the context of a request that may take longer than others, up to most. It ends when the caller hangs up.
func unhurried(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	long, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	if callers, ok := ctx.Value(callersKey).(context.Context); ok {
		stop := context.AfterFunc(callers, cancel)
		return long, func() { stop(); cancel() }
	}
	return long, cancel
}

func securityHeaders(publicURL string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			header := c.Response().Header()
			header.Set("Cache-Control", "no-store")
			header.Set("X-Content-Type-Options", "nosniff")
			header.Set("Referrer-Policy", "no-referrer")
			header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
			header.Set("Cross-Origin-Resource-Policy", "same-site")
			if strings.HasPrefix(publicURL, "https://") {
				header.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains") // one year: ASVS 3.4.1
			}
			return next(c)
		}
	}
}

// acceptPatch says on OPTIONS which patches a resource takes (RFC 5789 section 3.1).
func acceptPatch(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		allowed, _ := c.Get(echo.ContextKeyHeaderAllow).(string)
		if c.Request().Method == http.MethodOptions && strings.Contains(allowed, http.MethodPatch) {
			c.Response().Header().Set("Accept-Patch", patches)
		}
		return next(c)
	}
}

func (s *Server) limitBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request, most := c.Request(), bodyLimit(c)
		if request.ContentLength <= most {
			request.Body = http.MaxBytesReader(c.Response(), request.Body, most+1)
		}
		return next(c)
	}
}

// Keys of what the gate leaves for the error handler and the log line.
const (
	ruleKey   = "rule"
	actorName = "actor"
)

// gate lets an operation run only for those whom its row of the authorization table names, before its body is read.
func (s *Server) gate(rule access.Rule) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Set(ruleKey, rule)
			ctx := c.Request().Context()
			if rule.Limited {
				if err := s.allow(c, "address", "ip:"+originOf(ctx).IP); err != nil {
					return err
				}
			}
			actor, err := s.authenticate(c, rule)
			if err != nil {
				return s.outgrown(c, rule, err)
			}
			c.Set(actorName, actor)
			if ctx, err = withClaim(ctx, c.Request().Header.Values(onBehalfOf), actor); err != nil {
				return err
			}
			c.SetRequest(c.Request().WithContext(context.WithValue(ctx, actorKey, actor)))
			if err := rule.Allow(actor); err != nil {
				return errors.Join(err, s.recordDenied(c, rule, actor, err))
			}
			if err := checkQuery(c); err != nil {
				return err
			}
			if subject := subjectOf(actor); rule.Limited && subject != "" {
				if err := s.allow(c, "subject", subject); err != nil {
					return err
				}
			}
			return next(c)
		}
	}
}

// onBehalfOf is the header in which a service says which user it acts for.
const onBehalfOf = "X-On-Behalf-Of"

// withClaim keeps whom a service says it acts for with where the request came from. It gives the service nothing, so nobody
// looks whether there is such a user.
func withClaim(ctx context.Context, claims []string, actor access.Actor) (context.Context, error) {
	if len(claims) == 0 || actor.Kind == access.Nobody {
		return ctx, nil
	}
	origin := originOf(ctx)
	origin.OnBehalfOf = user.ID(claims[0])
	switch {
	case actor.Kind != access.Service:
		return nil, &malformedError{detail: "Only a service acts on behalf of a user: leave the header " + onBehalfOf + " out."}
	case len(claims) > 1 || !origin.OnBehalfOf.Valid():
		return nil, &malformedError{detail: "The header " + onBehalfOf + " must be one user id."}
	}
	return context.WithValue(ctx, originKey, origin), nil
}

// recordDenied puts a refused change into the audit trail; a refused look is in the log alone.
func (s *Server) recordDenied(c echo.Context, rule access.Rule, actor access.Actor, cause error) error {
	if actor.Kind == access.Nobody || !rule.Limited || rule.ReadOnly {
		return nil
	}
	ctx := c.Request().Context()
	return s.credentials.RecordDenied(ctx, actor, rule.Operation, user.ID(c.Param("id")), answerTo(cause).kind.Code, originOf(ctx))
}

// checkQuery refuses secrets in the URL, where logs and histories keep them (PW-25, ASVS 14.2.1). They are not read
// from there anyway; the caller should know.
func checkQuery(c echo.Context) error {
	for name := range c.QueryParams() {
		if slices.Contains([]string{"password", "new_password", "current_password", "refresh_token"}, name) {
			return &malformedError{detail: "Send " + name + " in the body, never in the URL."}
		}
	}
	return nil
}

func subjectOf(actor access.Actor) string {
	switch actor.Kind {
	case access.Person:
		return "user:" + string(actor.User.ID)
	case access.Service:
		return "client:" + actor.ClientID
	case access.Nobody, access.Operator:
	}
	return ""
}

// allow counts the request against the wider limit and says what is left (RateLimit header fields, draft-10).
func (s *Server) allow(c echo.Context, policy, key string) error {
	allowance, err := s.config.Limiter.Allow(c.Request().Context(), key, s.config.RateLimit)
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set("RateLimit-Policy", fmt.Sprintf(`"%s";q=%d;w=60`, policy, allowance.Limit))
	header.Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%s`, policy, allowance.Remaining, seconds(allowance.ResetAfter)))
	if !allowance.Allowed {
		return &throttle.DelayedError{RetryAfter: max(allowance.RetryAfter, time.Second)}
	}
	return nil
}

func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }

// errTwoTokens says that it is not clear which token counts (RFC 6750 section 3.1).
var errTwoTokens = errors.New("httpapi: more than one Authorization header")

func (s *Server) authenticate(c echo.Context, rule access.Rule) (access.Actor, error) {
	if rule.Public && !rule.ReadsToken {
		return access.Actor{}, nil
	}
	header := c.Request().Header.Values("Authorization")
	switch len(header) {
	case 0:
		return access.Actor{}, nil
	case 1:
	default:
		return access.Actor{}, fmt.Errorf("%w: %w", errTwoTokens, &malformedError{detail: "Send one Authorization header."})
	}
	scheme, raw, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return access.Actor{}, nil // credentials of another kind are none
	}
	return s.sessions.Authenticate(c.Request().Context(), strings.TrimSpace(raw))
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
