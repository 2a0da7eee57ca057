package httpapi

import (
	"context"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/user"
)

// CreateUser makes a user with a temporary password.
func (s *Server) CreateUser(ctx context.Context, request api.CreateUserRequestObject) (api.CreateUserResponseObject, error) {
	body := request.Body
	done, err := s.credentials.CreateUser(ctx, actorOf(ctx), credential.NewUser{
		ID: user.ID(deref(body.ID)), AccountID: deref(body.AccountID), Username: body.Username, Email: deref(body.Email), DisplayName: body.DisplayName,
		Team: user.Team(body.Team), Role: user.Role(body.Role), AlsoManages: teamsOf(body.AlsoManages), Reason: deref(body.Reason), Origin: originOf(ctx),
	})
	if err != nil {
		return nil, err
	}
	shown, err := s.usersOf(ctx, []user.User{done.User})
	if err != nil {
		return nil, err
	}
	return api.CreateUser201JSONResponse{
		Body:    api.CreatedUser{User: shown[0], TemporaryPassword: done.TemporaryPassword.Reveal(), ExpiresAt: *timeOrNull(&done.ExpiresAt)},
		Headers: api.CreateUser201ResponseHeaders{ETag: etag(done.User), Location: "/admin/users/" + string(done.User.ID)},
	}, nil
}

// teamsOf reads a list of teams; nil stays nil, which is none given.
func teamsOf(names []api.Team) []user.Team {
	if names == nil {
		return nil
	}
	teams := make([]user.Team, len(names))
	for i, name := range names {
		teams[i] = user.Team(name)
	}
	return teams
}

// ChangeUser changes a user's place, name and status.
func (s *Server) ChangeUser(ctx context.Context, request api.ChangeUserRequestObject) (api.ChangeUserResponseObject, error) {
	body := request.Body
	wanted := credential.ChangeUser{
		Status: as[user.Status](body.Status), Role: as[user.Role](body.Role), Team: as[user.Team](body.Team), DisplayName: body.DisplayName,
		Reason: deref(body.Reason), IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx),
	}
	if teams := teamsOf(body.AlsoManages); teams != nil {
		wanted.AlsoManages = &teams
	}
	changed, err := s.credentials.ChangeUser(ctx, actorOf(ctx), user.ID(request.ID), wanted)
	if err != nil {
		return nil, err
	}
	shown, err := s.usersOf(ctx, []user.User{changed})
	if err != nil {
		return nil, err
	}
	return api.ChangeUser200JSONResponse{Body: shown[0], Headers: api.ChangeUser200ResponseHeaders{ETag: etag(changed)}}, nil
}

// as reads an optional text as one of the domain's.
func as[T, F ~string](given *F) *T {
	if given == nil {
		return nil
	}
	value := T(*given)
	return &value
}

// UnlockUser lifts the delays after failed attempts.
func (s *Server) UnlockUser(ctx context.Context, request api.UnlockUserRequestObject) (api.UnlockUserResponseObject, error) {
	wanted := credential.Unlocking{IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx)}
	if request.Body != nil {
		wanted.Reason = deref(request.Body.Reason)
	}
	unlocked, err := s.credentials.Unlock(ctx, actorOf(ctx), user.ID(request.ID), wanted)
	if err != nil {
		return nil, err
	}
	shown, err := s.usersOf(ctx, []user.User{unlocked})
	if err != nil {
		return nil, err
	}
	return api.UnlockUser200JSONResponse{Body: shown[0], Headers: api.UnlockUser200ResponseHeaders{ETag: etag(unlocked)}}, nil
}

// EndUserSessions ends all sessions of a user.
func (s *Server) EndUserSessions(ctx context.Context, request api.EndUserSessionsRequestObject) (api.EndUserSessionsResponseObject, error) {
	if err := s.credentials.EndSessions(ctx, actorOf(ctx), user.ID(request.ID), originOf(ctx)); err != nil {
		return nil, err
	}
	return api.EndUserSessions204Response{}, nil
}

// attemptsOf shows attempts to sign in.
func attemptsOf(events []audit.Event) []api.SignInAttempt {
	shown := make([]api.SignInAttempt, len(events))
	for i, e := range events {
		shown[i] = api.SignInAttempt{
			At: e.At, Outcome: api.SignInAttemptOutcome(e.Outcome), Code: textOrNull(e.Details.Code), IP: e.Origin.IP, UserAgent: e.Origin.UserAgent,
		}
	}
	return shown
}

// ResolveUsername tells who held a username.
func (s *Server) ResolveUsername(ctx context.Context, request api.ResolveUsernameRequestObject) (api.ResolveUsernameResponseObject, error) {
	held, err := s.credentials.Attribute(ctx, actorOf(ctx), request.Username, request.Params.At)
	if err != nil {
		return nil, err
	}
	return api.ResolveUsername200JSONResponse{
		UserID: string(held.UserID), HeldFrom: held.From, HeldUntil: held.Until, CurrentUsername: held.CurrentUsername,
	}, nil
}
