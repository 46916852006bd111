"""Operations and outcomes as bytes; the same payload goes into frames and into SCPI blocks."""
