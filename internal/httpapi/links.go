package httpapi

import (
	"context"

	"github.com/salesexec/credentials/api"
)

// RedeemPasswordReset sets the password that the holder of a reset link chose.
func (s *Server) RedeemPasswordReset(ctx context.Context, request api.RedeemPasswordResetRequestObject) (api.RedeemPasswordResetResponseObject, error) {
	if err := s.credentials.RedeemReset(ctx, request.Body.Token, request.Body.NewPassword, originOf(ctx)); err != nil {
		return nil, err
	}
	return api.RedeemPasswordReset204Response{}, nil
}

// ConfirmEmail lets a pending address take effect.
func (s *Server) ConfirmEmail(ctx context.Context, request api.ConfirmEmailRequestObject) (api.ConfirmEmailResponseObject, error) {
	done, err := s.credentials.ConfirmEmail(ctx, request.Body.Token, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.ConfirmEmail200JSONResponse{Username: done.User.Username, Email: done.User.Email}, nil
}

// RevertCredentials undoes what the user says was somebody else's doing.
func (s *Server) RevertCredentials(ctx context.Context, request api.RevertCredentialsRequestObject) (api.RevertCredentialsResponseObject, error) {
	done, err := s.credentials.Revert(ctx, request.Body.Token, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.RevertCredentials200JSONResponse{
		Username: done.User.Username, Email: textOrNull(done.User.Email), SessionsEnded: done.SessionsEnded,
	}, nil
}
