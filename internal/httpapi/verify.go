package httpapi

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
)

// VerifyCredentials tells another service whether a name and a password are right.
func (s *Server) VerifyCredentials(ctx context.Context, request api.VerifyCredentialsRequestObject) (api.VerifyCredentialsResponseObject, error) {
	actor, body := actorOf(ctx), request.Body
	// The wider limit is for the address that the attempt came from: all of them come from the service's own.
	key := subjectOf(actor)
	if address, err := netip.ParseAddr(deref(body.IP)); err == nil {
		key = "ip:" + address.Unmap().String()
	}
	allowance, err := s.config.Limiter.Allow(ctx, key, s.config.RateLimit)
	if err != nil {
		return nil, err
	}
	if !allowance.Allowed {
		return nil, &throttle.DelayedError{RetryAfter: max(allowance.RetryAfter, time.Second)}
	}
	u, err := s.sessions.Verify(ctx, actor, session.Verification{
		Username: body.Username, Password: body.Password, IP: deref(body.IP), UserAgent: keptUserAgent(deref(body.UserAgent)), Origin: originOf(ctx),
	})
	if errors.Is(err, session.ErrInvalidCredentials) {
		return api.VerifyCredentials200JSONResponse{Verified: false}, nil
	}
	if err != nil {
		return nil, err
	}
	id, role, team := string(u.ID), api.Role(u.Role), api.Team(u.Team)
	return api.VerifyCredentials200JSONResponse{
		Verified: true, UserID: &id, AccountID: &u.AccountID, Role: &role, Team: &team,
		MustChangePassword: &u.Password.MustChange, Generation: &u.Generation,
	}, nil
}
