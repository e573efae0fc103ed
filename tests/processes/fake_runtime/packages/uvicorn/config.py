class Config:
    def load(self) -> None:
        pass
