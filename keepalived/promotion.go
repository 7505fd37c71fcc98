package keepalived

import (
	"slices"

	"redis-is-master/checker"
)

// promotions is how many config epochs have a number of their own. Keepalived
// adds the number to the priority, which ends at 254.
const promotions = 100

// Promotion is the [TrackFile.Number] for a second track_file with weight 1: the
// config epoch at which this node was promoted, modulo 100, while the answer is
// yes; else 0. Of two nodes that hold the VIP after a partition, the one that was
// promoted later then wins at its first advert.
//
// Before the Sentinels announce a promotion that was watched, it is known to be
// above the epoch that they name. Evidence of any other kind names no epoch, and
// changes nothing.
//
// Epoch 100 has the number 0, and is below 99: after that one promotion, the old
// master of a partition wins for as long as it says yes, as without the file.
func Promotion(s checker.Status, was int) int {
	standing := s.Observation.Standing
	switch {
	case s.Verdict.Answer() != checker.Yes:
		return 0
	case standing.State == checker.StateConfirmed,
		standing.State == checker.StatePromoted && slices.ContainsFunc(standing.Claims,
			func(c checker.TimedClaim) bool { return c.NamesUs && c.Epoch == standing.Epoch }):
		return int(standing.Epoch % promotions)
	case standing.State == checker.StatePromoted && len(standing.Claims) > 0:
		return int((standing.Epoch + 1) % promotions)
	}
	return was
}

// NewPromotionFile is [NewTrackFile] for the file with the [Promotion].
func NewPromotionFile(path string, failed func(error)) (*TrackFile, error) {
	return newFile(promotionFile(path, failed), "promotion file")
}

func promotionFile(path string, failed func(error)) *TrackFile {
	return &TrackFile{Path: path, Number: Promotion, Failed: failed}
}
